"""Leases: the right to run a trial until a time, and what its holder says.

The protocol is at-least-once execution with exactly-once effect: a trial may be run twice, but only the current
lease holder's words are stored. `lease_id` is the capability; `fence` orders the attempts of one trial.
"""

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field

from trimtab.contract.message import Int, Message, Name, Number, Sha256, Text
from trimtab.contract.recipe import Recipe
from trimtab.contract.search_space import Scalar
from trimtab.contract.tasks import Model, Task
from trimtab.contract.teachers import Teacher
from trimtab.contract.text import storable
from trimtab.contract.trials import FailureKind, TrialState

Verdict = Literal["continue", "stop", "finish", "pause", "cancel"]
"""Go on; end as pruned; complete with the best epoch so far; save and give back; end without a value."""
LeaseKind = Literal["trial", "final"]
Step = Annotated[Int, Field(ge=0, lt=100_000)]
LONGEST_MESSAGE = 8192


class LeaseRequest(Message):
    """A worker asks for work. A repeat with the same `claim_id` gets the same leases.

    Keep the `claim_id` until it has got a lease: whatever a late copy of the request gets is then yours to run.
    """

    worker_id: UUID
    claim_id: UUID
    capacity: Annotated[Int, Field(ge=1, le=64)] = 1
    """How many more trials it could take now; live leases never exceed what it registered."""
    wait_s: Annotated[Number, Field(ge=0, le=60)] = 0.0
    """How long the service may hold the request open when there is nothing to do."""
    beside: Name | None = None
    """The only study that may serve the claim, at its turn and with a trial: one of which it can train more beside."""


class Checkpoint(Message):
    """A training state on the artifact store: after `step`, named by its sha256."""

    step: Step
    sha256: Sha256
    bytes: Annotated[Int, Field(ge=1)]


class CheckpointReport(Message):
    """The newest training state, and whether it is that of the best epoch so far."""

    checkpoint: Checkpoint
    best: Checkpoint | None = None
    """The best epoch's state; the final lease of a winner starts from it."""


class Lease(Message):
    """Everything a worker needs to run one trial, or the final evaluation of a study."""

    lease_id: UUID
    kind: LeaseKind
    study: str
    trial_number: int
    fence: int
    ttl_s: float
    """Without a word for so long the lease is lost; renew at a quarter of it."""
    seed: int
    task: Task
    model: Model
    teacher: Teacher | None = None
    hyperparameters: Mapping[str, Scalar]
    recipe: Recipe
    resume: Checkpoint | None = None
    """Of a trial: where to carry on. Of a final lease: the winner's best checkpoint."""
    previous: Checkpoint | None = None
    """Of a trial: where to carry on if `resume` cannot be had, or is harmed."""
    validation_value: float | None = None
    """Of a final lease: the objective value that the winner reached."""
    validation_accuracy: float | None = None
    """The same, where the objective is accuracy."""


class Leases(Message):
    """What a claim got."""

    leases: tuple[Lease, ...]


class Report(Message):
    """The objective after one epoch, and what else was measured. A value that is not finite is sent as null."""

    step: Step
    value: Number | None
    metrics: Mapping[Annotated[Text, Field(max_length=128)], Number] = Field(
        default_factory=dict[str, float]
    )


class Reports(Message):
    """One or more epochs; one conflicting step refuses them all."""

    reports: Annotated[tuple[Report, ...], Field(min_length=1)]


class Answer(Message):
    """What a report or a heartbeat is told: the verdict, and for how long the lease now holds."""

    verdict: Verdict
    ttl_s: float


class Release(Message):
    """Give a trial back unfinished: `drain` queues it at once, `paused` keeps it until it is resumed."""

    reason: Literal["drain", "paused"]


class Completed(Message):
    """The trial ran to its end. A final lease carries its scores in `metrics` and the model in `model_sha256`."""

    kind: Literal["completed"] = "completed"
    value: Number
    metrics: Mapping[Annotated[Text, Field(max_length=128)], Number] = Field(
        default_factory=dict[str, float]
    )
    model_sha256: Sha256 | None = None


class Pruned(Message):
    """The trial was stopped because the verdict said so."""

    kind: Literal["pruned"] = "pruned"


def _make_storable(message: object) -> object:
    return storable(message)[:LONGEST_MESSAGE] if isinstance(message, str) else message


class Failed(Message):
    """The attempt failed. A retryable failure queues the trial again and counts one crash."""

    kind: Literal["failed"] = "failed"
    error: FailureKind
    message: Annotated[Text, BeforeValidator(_make_storable)] = ""
    """Cut after 8,192 characters, and cleaned of what Postgres cannot hold: a refusal would lose the outcome."""
    retryable: bool = False


Outcome = Annotated[Completed | Pruned | Failed, Field(discriminator="kind")]


class Settled(Message):
    """What a settled trial became: a retryable failure is queued again."""

    state: TrialState
