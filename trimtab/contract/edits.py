"""What a person changes of a study that has begun."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trimtab.contract.demand import Devices, GpuMemory
from trimtab.contract.message import Int, Message, Number
from trimtab.contract.search_space import Scalar, Space

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


class NeedsEdit(Message):
    """What changes of the needs of a study; null: it stays as it was."""

    gpu_memory_gb: GpuMemory | None = None
    devices_per_trial: Devices | None = None


class SpaceEdit(Message):
    """A change of the search space, as it stands in the study's document from then on."""

    trials: int
    """The number of trials that had begun before it: theirs are the numbers below."""
    outside: int
    """The number of those that lie outside of the changed space: the sampler sees them no more."""
    values: Mapping[str, Scalar] = Field(default_factory=dict[str, Scalar])
    """What those trials had for the names that are searched since: the fixed value, or the recipe's own."""


class StudyEdit(Message):
    """The changes of a study that has begun; what is null stays.

    Every value is the whole one and no difference, so that a request may be repeated.
    """

    budget: BudgetEdit | None = None
    priority: Annotated[Int, Field(ge=0, le=1000)] | None = None
    parallel: Annotated[Int, Field(ge=1, le=10_000)] | Literal["none"] | None = None
    """At most so many trials are leased at a time from now on; `none`: no limit. Those that run go on."""

    needs: NeedsEdit | Literal["none"] | None = None
    """What it needs of a worker's device from now on; `none`: any device will do. Trials that run go on where they are."""
    space: Space | None = None
    """The whole search space from now on; what is no longer in it takes its value in `fixed`, or else the recipe's own."""
    fixed: Mapping[str, Scalar] | None = None
    """The values from now on of hyperparameters that `space` no longer has."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fixed is not None and self.space is None:
            raise ValueError("`fixed` stands beside `space`: it is for what that no longer has")
        others = (self.priority, self.parallel, self.needs, self.space)
        if set(map(type, others)) == {type(None)} and self.budget in (None, BudgetEdit()):
            raise ValueError(
                "changes nothing: give a limit of the budget, such as budget.trials, or priority, parallel, needs or space"
            )
        return self


class TrialRequest(Message):
    """A configuration that a person wants tried next."""

    values: Mapping[str, Scalar] = Field(default_factory=dict[str, Scalar])
    """The values by the names of searched hyperparameters; names that are missing get the prior's."""
