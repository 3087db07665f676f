"""Trials: the training of one configuration, as the service shows it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from trimtab.contract.message import Message, Number
from trimtab.contract.metrics import Direction
from trimtab.contract.reasons import Reason
from trimtab.contract.records import TrialRecord
from trimtab.contract.search_space import Scalar

TrialState = Literal[
    "queued", "running", "paused", "completed", "pruned", "failed", "cancelled"
]
FailureKind = Literal[
    "oom",
    "diverged",
    "recipe_unfit",
    "data_missing",
    "crashed",
    "stalled",
    "killed",
    "user_error",
    "checkpoint_corrupt",
    "infrastructure",
    "cancelled",
    "poison",
]


class IntermediateValue(Message):
    """The objective after one epoch; `value` is null if it was not finite."""

    step: int
    value: float | None


class Attempt(Message):
    """One try at a trial under one lease."""

    fence: int
    worker: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: str | None = None


class Trial(Message):
    """One trial, as it is now."""

    number: int
    state: TrialState
    hyperparameters: Mapping[str, Scalar]
    proposed_by: str | None = None
    """What its hyperparameters come from: `first_trials`, `known_recipe:NAME`, `enqueued`, `prior`, `tpe` or `random`; null in a grid."""
    objective: str
    """The metric that the study's trials are compared by."""
    direction: Direction | None = None
    """Whether more or less of the objective is better; null from a service of an older release."""
    value: Number | None = None
    """The objective value of a completed trial, null for any other trial.

    It is the mean of the last three intermediate values up to the epoch that is kept, or that epoch's value where the
    validation split has 250 rows or more.
    """
    curve: tuple[IntermediateValue, ...] = ()
    metrics: Mapping[int, Mapping[str, float]] = Field(
        default_factory=dict[int, Mapping[str, float]]
    )
    """All metrics after each epoch, by step and name; filled for a single trial, empty in lists."""
    measured: Mapping[str, float] = Field(default_factory=dict[str, float])
    """What its worker measured of a completed trial: the metrics of the kept epoch, and what the model costs.

    Of a trial that was not trained, since it violates a constraint, what was known of its model before.
    """
    violations: Mapping[str, float] = Field(default_factory=dict[str, float])
    """The share of its bound by which a trial violates each constraint that it was measured for, by its metric; 0 or less:
    it keeps it."""
    feasible: bool | None = None
    """Whether a completed trial keeps every constraint of its study; false for one that was not trained, since it violates
    one; null for any other trial."""
    second_value: Number | None = None
    """The second objective's value of a completed trial, where its study has two."""
    runs_until: int | None = None
    """The number of epochs at which the search decides on the trial again; null: nothing pauses it before its end."""
    paused_by_search: bool = False
    """Whether the trial is paused, or about to, because others promise more; the search may take it up again."""
    reason: Reason | None = None
    """Why the search paused, stopped or went on with the trial when it last decided on it."""
    crashes: int = 0
    error_kind: FailureKind | None = None
    error_message: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    """Filled for a single trial, empty in lists."""
    record: TrialRecord | None = None
    """What the worker found when it began; filled for a single trial, null in lists."""


class TrialPage(Message):
    """A page of trials in the order of their numbers."""

    trials: tuple[Trial, ...]
    next_page_token: str | None = None
