"""Points of a conditional space, as trials have them and as models see them.

A trial has the values of its active dimensions alone. A model is shown whole points: what is inactive has one value, the
prior or the middle of its dimension (imputation, as in Hutter, Hoos & Leyton-Brown, Sequential Model-Based Optimization for
General Algorithm Configuration, 2011, section 4.1). So two points that differ only in what is inactive are one.
"""

from collections.abc import Mapping
from dataclasses import replace

from service.domain.facts import Changes, TrialFacts
from trimtab.contract.conditions import Conditions
from trimtab.contract.search_space import Scalar, Space, usual

Values = Mapping[str, Scalar]


class Canonical:
    """The two forms of a space's points; in a space without conditions they are the same.

    Args:
        space: The search space.
    """

    def __init__(self, space: Space) -> None:
        self.conditions = Conditions(space)
        self._usual = {name: usual(space[name]) for name in self.conditions.needed}

    def __bool__(self) -> bool:
        """Whether any dimension is conditional."""
        return bool(self.conditions)

    def active(self, values: Values) -> dict[str, Scalar]:
        """Return a point as a trial has it: the values of its active dimensions."""
        return self.conditions.active(values)

    def whole(self, values: Values) -> dict[str, Scalar]:
        """Return a point as a model sees it: what is inactive has its usual value. An active value that lacks stays so."""
        unused = {
            name: usual
            for name, usual in self._usual.items()
            if not self.conditions.is_active(name, values)
        }
        return {**values, **unused}

    def shown(self, changes: Changes) -> Changes:
        """Return trials that changed with whole points."""
        if not self:
            return changes
        return replace(changes, trials=tuple(map(self._shown, changes.trials)))

    def _shown(self, trial: TrialFacts) -> TrialFacts:
        return replace(trial, hyperparameters=self.whole(trial.hyperparameters))
