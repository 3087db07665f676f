"""What is said of a trial that violates a constraint before anything of it is trained."""

from collections.abc import Mapping, Sequence

from trimtab.contract.objectives import Constraint
from trimtab.contract.reasons import LONGEST, Reason

RULE = "constraint"


def foretold(constraints: Sequence[Constraint], measured: Mapping[str, float]) -> Reason | None:
    """Return why a trial is not trained; None where what was measured of its model violates nothing.

    Args:
        constraints: The constraints of the study.
        measured: The costs that are known before training, by their names; a constraint on anything else is left out.
    """
    broken = [
        f"{one.metric} = {measured[one.metric]:.12g}, and the study wants {one.told}"
        for one in constraints
        if one.metric in measured and not one.keeps(measured[one.metric])
    ]
    if not broken:
        return None
    told = f"not trained: its model has {'; '.join(broken)}"
    return Reason(rule=RULE, text=told[:LONGEST])
