"""What the search decides about a trial that has come to the end of what it was given."""

from dataclasses import dataclass
from typing import Literal

from trimtab.contract.reasons import Reason


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of the trial, to be stored with the report that it was made for.

    Attributes:
        verdict: go on, pause until the search takes it up again, or end as pruned.
        runs_until: the number of epochs at which it is decided on again; None: it runs to its end.
        reason: why; None: nothing new is to be told.
    """

    verdict: Literal["continue", "pause", "stop"]
    runs_until: int | None
    reason: Reason | None = None


def is_due(
    last_step: int,
    last_value: float | None,
    runs_until: int | None,
    *,
    schedules: bool,
    decides_here: bool = False,
) -> bool:
    """Whether a report is to be decided on all trials of its study, not by what is known of this one alone.

    Args:
        last_step: the last step that it tells.
        last_value: the value there; None: it was not finite, which no further epochs mend.
        runs_until: the number of epochs that the trial was given; None: it runs to its end.
        schedules: whether the study's search pauses trials at all.
        decides_here: whether it looks at trials that run to their end, too, when they have come as far as this one.
    """
    if not schedules:
        return False
    if last_value is None or (runs_until is None and decides_here):
        return True
    return runs_until is not None and last_step + 1 >= runs_until
