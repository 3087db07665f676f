"""What a study asks of a model beside its objective: bounds that it must keep, and a second objective."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from trimtab.contract.message import Message, Number, Text
from trimtab.contract.metrics import Direction, direction_of

Cost = Literal["parameters", "latency_ms", "memory_bytes", "train_seconds"]
"""What a worker measures of a model beside how good it is; less of each is better."""

COSTS: tuple[Cost, ...] = get_args(Cost)

OF_THE_MODEL: frozenset[str] = frozenset({"parameters", "latency_ms"})
"""The costs of whoever uses a model. An ensemble has those of all its members; the others are the training's."""

FORETOLD: frozenset[str] = frozenset({"parameters", "latency_ms", "memory_bytes"})
"""The costs that a trial can be known to violate a bound of before its first epoch is over."""

LEAST_BOUND, LARGEST_BOUND = 1e-9, 1e18

MetricName = Annotated[Text, Field(min_length=1, max_length=128)]
Bound = Annotated[Number, Field(ge=-LARGEST_BOUND, le=LARGEST_BOUND)]


def is_cost(metric: str) -> bool:
    """Return whether a metric is a cost, and not one of the validation split."""
    return metric in COSTS


def better_of(metric: str) -> Direction:
    """Return whether more or less of a metric or a cost is better."""
    return "minimize" if is_cost(metric) else direction_of(metric)


class Constraint(Message):
    """The bounds of a metric or a cost that a trial must keep to be handed over."""

    metric: MetricName = Field(
        description="A metric of the task on the validation split, or a cost: parameters, latency_ms, memory_bytes or "
        "train_seconds."
    )
    max: Bound | None = Field(default=None, description="The most that a trial may have of it.")
    min: Bound | None = Field(
        default=None, description="The least that a trial must have of it."
    )

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.max is None and self.min is None:
            message = "a constraint has `max`, `min` or both, as {metric: latency_ms, max: 20}"
            raise PydanticCustomError("without_bounds", message)
        if self.max is not None and self.min is not None and self.min > self.max:
            message = "`min` is above `max`, so that no trial could keep both"
            raise PydanticCustomError("bounds_swapped", message)
        if any(bound and abs(bound) < LEAST_BOUND for bound in (self.max, self.min)):
            message = "a bound is 0, or at least 1e-9 from it"
            raise PydanticCustomError("tiny_bound", message)
        return self

    def keeps(self, found: float) -> bool:
        """Return whether a value of its metric lies within the bounds."""
        return (self.max is None or found <= self.max) and (
            self.min is None or found >= self.min
        )

    @property
    def told(self) -> str:
        """The constraint in words, such as `latency_ms <= 20`."""
        bounds = (("<=", self.max), (">=", self.min))
        return " and ".join(
            f"{self.metric} {sign} {bound:.12g}" for sign, bound in bounds if bound is not None
        )


class Objective(Message):
    """One of the two metrics that a study is to find the best compromises of."""

    metric: MetricName = Field(
        description="The task's own objective in the first place; in the second another metric of the task, or a cost."
    )
    direction: Direction | None = Field(
        default=None,
        description="Whether more or less of it is better, which follows from the metric; it may be said, not changed.",
    )


class Violated(Message):
    """How many trials violate one constraint."""

    constraint: Constraint
    violated: int
    """Completed trials that violate it."""
    completed: int
    """Completed trials in all."""
    untrained: int = 0
    """Trials that violate it by what is known before training, and were not trained."""
    nearest: float | None = None
    """The value that comes nearest to keeping it, where all violate it."""
