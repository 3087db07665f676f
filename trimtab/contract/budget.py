"""What a study may spend, and what of it ended the search."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from trimtab.contract.message import Int, Message, Number

EndedBy = Literal[
    "trials",
    "wall_time",
    "exhausted",
    "stopped",
    "cancelled",
    "device_seconds",
    "epochs",
    "target_value",
    "no_progress",
]
"""What ended a study's search: a limit of its budget, the sampler's last point, or a person."""


class Budget(Message):
    """What a study may spend. Retries cost nothing; whichever limit is reached first ends the search.

    What its finish trains anew is part of it: the search has what the refits leave.
    """

    trials: Annotated[Int, Field(ge=1, le=1_000_000)]
    wall_time_s: Annotated[Number, Field(gt=0)] | None = None
    """Seconds from the first lease on in which the study is active; pauses do not count."""
    device_seconds: Annotated[Number, Field(gt=0)] | None = None
    """Seconds in which workers have trials of the study, added up; what one worker trains at a time counts once."""
    epochs: Annotated[Int, Field(ge=1, le=2**31 - 1)] | None = None
    """Epochs that all trials together may train, those included that a crash made them train again."""
    target_value: Number | None = None
    """The search ends when a trial has completed with this objective value or a better one."""
    no_progress_trials: Annotated[Int, Field(ge=1, le=1_000_000)] | None = None
    """The search ends when so many trials in a row have ended without a better value than the best before them."""

    @property
    def limits(self) -> Mapping[str, float]:
        """The limits that are given beside the trials and the wall time, by their names."""
        return self.model_dump(exclude={"trials", "wall_time_s"}, exclude_none=True)
