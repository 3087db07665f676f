"""How far a study is: its trials by state, and its best one."""

from collections.abc import Mapping

from pydantic import Field

from trimtab.contract.message import Message
from trimtab.contract.search_space import Scalar


class Progress(Message):
    """How many trials are in each state, and how many epochs were trained and saved."""

    queued: int = 0
    running: int = 0
    paused: int = 0
    completed: int = 0
    pruned: int = 0
    failed: int = 0
    cancelled: int = 0
    epochs: int = 0
    """Epochs reported so far."""
    epochs_saved: int = 0
    """Epochs that pruned trials did not train, against their recipe."""
    device_seconds: float = 0
    """Seconds in which workers had trials, added up; what one worker trains at a time counts once."""


class BestTrial(Message):
    """The completed trial of the best objective value."""

    number: int
    objective: str
    """The metric that trials are compared by, on the validation split."""
    value: float
    validation_accuracy: float | None = None
    """The value, where the objective is accuracy."""
    hyperparameters: Mapping[str, Scalar]
    measured: Mapping[str, float] = Field(default_factory=dict[str, float])
    """What its worker measured of it, as in a trial."""
