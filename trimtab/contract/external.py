"""The task of an external study: its trials are trained by a person's own loop, and nothing else is known of it."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trimtab.contract.faults import Fault, refuse
from trimtab.contract.message import Message
from trimtab.contract.metrics import Direction
from trimtab.contract.objectives import MetricName

EXTERNAL = "external"
"""The kind of such a task."""

EPOCHS = "epochs"
"""The one hyperparameter of an external study that the service knows: how many reports a whole trial makes."""


class ExternalTask(Message):
    """What a person's own training loop is to be good at. The service hands it hyperparameters and nothing else."""

    kind: Literal["external"]
    objective: MetricName = Field(
        description="The metric that trials are compared by; the loop reports it at every step."
    )
    direction: Direction = Field(description="Whether more or less of the objective is better.")
    metrics: Annotated[tuple[MetricName, ...], Field(max_length=100)] = Field(
        default=(), description="Further metrics that the loop may report beside the objective."
    )

    @model_validator(mode="before")
    @classmethod
    def _has_no_data(cls, given: object) -> object:
        if isinstance(given, Mapping) and "dataset" in given:
            message = "an external study has none: its loop reads data of its own; leave `dataset` out"
            refuse(cls.__name__, [Fault(("dataset",), "external_dataset", message)])
        return given  # pyright: ignore[reportUnknownVariableType] - the fields check it

    @model_validator(mode="after")
    def _names_each_metric_once(self) -> Self:
        named = self.reported
        if twice := sorted({one for one in named if named.count(one) > 1}):
            raise ValueError(f"each metric is named once; named twice: {', '.join(twice)}")
        return self

    @property
    def metric(self) -> str:
        """Name of what trials are compared by."""
        return self.objective

    @property
    def reported(self) -> tuple[str, ...]:
        """Names of all that the loop may report, the objective first."""
        return (self.objective, *self.metrics)

    @property
    def modality(self) -> None:
        """The kind of the samples, which only the loop knows."""
        return None

    @property
    def is_bounded(self) -> bool:
        """Whether the objective is known to lie within 0 and 1, which a name alone does not tell."""
        return False
