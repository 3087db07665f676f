"""What a person changes of a study that has begun."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trimtab.contract.message import Int, Message, Number
from trimtab.contract.search_space import Scalar

NO_LIMIT: Literal["none"] = "none"


class BudgetEdit(Message):
    """The limits of a budget that change; null: the limit stays."""

    trials: Annotated[Int, Field(ge=1, le=1_000_000)] | None = None
    """The whole number of trials from now on, those that have begun and the refits included."""
    wall_time_s: Annotated[Number, Field(gt=0)] | Literal["none"] | None = None
    """The whole wall time in seconds from now on, the time that was spent included; `none`: no limit."""
    device_seconds: Annotated[Number, Field(gt=0)] | Literal["none"] | None = None
    """The whole time of workers in seconds from now on, the time that was spent included; `none`: no limit."""
    epochs: Annotated[Int, Field(ge=1, le=2**31 - 1)] | Literal["none"] | None = None
    """The whole number of epochs of all trials from now on, those that were trained included; `none`: no limit."""
    target_value: Number | Literal["none"] | None = None
    """The objective value at which the search ends from now on; `none`: it has none."""
    no_progress_trials: Annotated[Int, Field(ge=1, le=1_000_000)] | Literal["none"] | None = (
        None
    )
    """The number of trials in a row without a better value at which the search ends from now on; `none`: no limit."""


class StudyEdit(Message):
    """The changes of a study that has begun; what is null stays.

    Every value is the whole one and no difference, so that a request may be repeated.
    """

    budget: BudgetEdit | None = None
    priority: Annotated[Int, Field(ge=0, le=1000)] | None = None
    parallel: Annotated[Int, Field(ge=1, le=10_000)] | Literal["none"] | None = None
    """At most so many trials are leased at a time from now on; `none`: no limit. Those that run go on."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        others = (self.priority, self.parallel)
        if others == (None, None) and self.budget in (None, BudgetEdit()):
            raise ValueError(
                "changes nothing: give a limit of the budget, such as budget.trials, or priority or parallel"
            )
        return self


class TrialRequest(Message):
    """A configuration that a person wants tried next."""

    values: Mapping[str, Scalar] = Field(default_factory=dict[str, Scalar])
    """The values by the names of searched hyperparameters; names that are missing get the prior's."""
