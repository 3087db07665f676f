"""Leases: the right to run a trial for a limited time, and the messages of its holder.

The protocol is at-least-once execution with exactly-once effect: a trial may be run twice, but only what the holder of
the current lease sends is stored. `lease_id` is the capability; `fence` orders the attempts at one trial.
"""

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field

from trimtab.contract.final_report import FinalReport
from trimtab.contract.message import Int, Message, Name, Number, Sha256, Text
from trimtab.contract.objectives import Constraint, Cost
from trimtab.contract.recipe import Recipe
from trimtab.contract.search_space import Scalar
from trimtab.contract.tasks import Model, Task
from trimtab.contract.teachers import Teacher
from trimtab.contract.text import storable
from trimtab.contract.trials import FailureKind, TrialState
from trimtab.contract.validation_outputs import ValidationOutputs

Verdict = Literal["continue", "stop", "finish", "pause", "cancel"]
"""Go on; end as pruned; complete with the last epoch that is over; save and give back; end without a value."""
LeaseKind = Literal["trial", "refit", "final"]
"""The training of a trial; that of one of the best on train and validation together; the final evaluation."""
Step = Annotated[Int, Field(ge=0, lt=100_000)]
LONGEST_MESSAGE = 8192


class LeaseRequest(Message):
    """A worker asks for work. A repeated request with the same `claim_id` gets the same leases.

    A worker keeps its `claim_id` until it has received a lease. A copy of the request that arrives late then gets a
    lease under a claim that the worker still knows, and the worker runs it.
    """

    worker_id: UUID
    claim_id: UUID
    capacity: Annotated[Int, Field(ge=1, le=64)] = 1
    """The number of further trials that the worker can take now. Its leases never exceed its registered capacity."""
    wait_s: Annotated[Number, Field(ge=0, le=60)] = 0.0
    """Seconds for which the service may hold the request open while there is no work."""
    beside: Name | None = None
    """The name of the one study that may answer the claim: the worker can train more of its trials in the same process.

    The study answers only when its turn comes, and only with a trial, never with a final lease.
    """


class Checkpoint(Message):
    """A training state in the artifact store, as it was after `step`; the file is named by its sha256.

    A trial that was released within an epoch goes on from there: `step` is then the last finished epoch, or 0 if there is none.
    """

    step: Step
    sha256: Sha256
    bytes: Annotated[Int, Field(ge=1)]


class CheckpointReport(Message):
    """The newest checkpoint, and the best one, which is the one to evaluate if no later one is."""

    checkpoint: Checkpoint
    best: Checkpoint | None = None
    """The checkpoint of the epoch that is kept so far: the last, or with early stopping the one that it holds best.

    The final lease of a winner starts from it.
    """


class Member(Message):
    """One of a study's best trials, as a refit and the final lease need it."""

    trial_number: int
    seed: int
    hyperparameters: Mapping[str, Scalar]
    model: Model | None = None
    """The pretrained model that it began with; null, of an older service: that of the lease."""
    recipe: Recipe
    value: float
    """Its objective value."""
    validated: Checkpoint | None = None
    """What it came to on train alone: the model that the value was measured of."""
    refit: Checkpoint | None = None
    """The same recipe trained on train and validation; null where nothing was refitted, or that failed.

    Of several seeds, the first that completed.
    """
    further_refits: tuple[Checkpoint, ...] = ()
    """The same recipe, trained so with further seeds."""

    @property
    def refits(self) -> tuple[Checkpoint, ...]:
        """All of its refits, in the order of their seeds."""
        return () if self.refit is None else (self.refit, *self.further_refits)


class Lease(Message):
    """Everything a worker needs to run one trial, or the final evaluation of a study."""

    lease_id: UUID
    kind: LeaseKind
    study: str
    trial_number: int
    fence: int
    ttl_s: float
    """Seconds after which the lease is lost unless its holder sends something; renew it after a quarter of them."""
    seed: int
    seed_index: int = 0
    """The place of `seed` among those that the trial is refitted with; 0 is the trial's own."""
    task: Task
    model: Model
    teacher: Teacher | None = None
    hyperparameters: Mapping[str, Scalar]
    recipe: Recipe
    runs_until: int | None = None
    """The number of epochs, of all attempts, at which the search decides whether the trial goes on; null: it runs to its end.

    The verdict on the report that reaches it is that decision.
    """
    resume: Checkpoint | None = None
    """The checkpoint to go on from; in a final lease, that of the winner."""
    previous: Checkpoint | None = None
    """The checkpoint to go on from if `resume` is missing or damaged; None in a final lease."""
    validation_value: float | None = None
    """The objective value of the winner; None except in a final lease."""
    validation_accuracy: float | None = None
    """The objective value of the winner where the objective is accuracy."""
    costs: tuple[Cost, ...] = ()
    """The costs that the study's constraints or objectives name: the outcome has to tell them."""
    constraints: tuple[Constraint, ...] = ()
    """The study's constraints on what is known before the first epoch is over: a trial that violates one ends without it."""
    devices_per_trial: int = 1
    """The number of devices of the worker that the trial is trained on; its batches are divided among them."""
    members: tuple[Member, ...] = ()
    """In a final lease, the trials that the model is made of, the winner first; in a refit, the one that it repeats."""


class Leases(Message):
    """The leases that a claim was given."""

    leases: tuple[Lease, ...]


class Report(Message):
    """The intermediate value after one epoch and the other metrics. A value that is not finite is sent as null."""

    step: Step
    value: Number | None
    metrics: Mapping[Annotated[Text, Field(max_length=128)], Number] = Field(
        default_factory=dict[str, float]
    )


class Reports(Message):
    """The reports of one or more epochs. If one of them conflicts with a stored one, none is stored."""

    reports: Annotated[tuple[Report, ...], Field(min_length=1)]


class Answer(Message):
    """The answer to a report or a heartbeat: the verdict, and the seconds for which the lease now holds."""

    verdict: Verdict
    ttl_s: float
    draining: bool = False
    """Whether the worker is to give its leases back and to leave; only the answer to a heartbeat says so."""


class Release(Message):
    """Give a trial back unfinished: `drain` queues it at once, `paused` keeps it until its study is resumed."""

    reason: Literal["drain", "paused"]


class Completed(Message):
    """The trial ran to its end. A final lease carries its scores in `metrics` and the model in `model_sha256`.

    A trial's value is what trials are compared by. That of a refit, which nothing is compared with, is its training loss.
    """

    kind: Literal["completed"] = "completed"
    value: Number
    metrics: Mapping[Annotated[Text, Field(max_length=128)], Number] = Field(
        default_factory=dict[str, float]
    )
    measured: Mapping[Annotated[Text, Field(max_length=128)], Number] = Field(
        default_factory=dict[str, float]
    )
    """What a trial's model was measured to be: its metrics on the validation split after the kept epoch, and its costs."""
    model_sha256: Sha256 | None = None
    """The model that is handed over; only of a final lease, like the next two."""
    validated_sha256: Sha256 | None = None
    """The winner as it was validated, where another model is handed over."""
    report: FinalReport | None = None
    validation_outputs: ValidationOutputs | None = None
    """What a trial answered to each row of the validation split; null where that is too much."""


class Pruned(Message):
    """The trial was stopped because the verdict said so."""

    kind: Literal["pruned"] = "pruned"


class Infeasible(Message):
    """The trial was not trained: what its configuration makes of the model violates a constraint of its study."""

    kind: Literal["infeasible"] = "infeasible"
    measured: Annotated[
        Mapping[Annotated[Text, Field(max_length=128)], Number], Field(min_length=1)
    ]
    """What was measured of the model before the first epoch was over, by the names of costs."""


def _make_storable(message: object) -> object:
    return storable(message)[:LONGEST_MESSAGE] if isinstance(message, str) else message


class Failed(Message):
    """The attempt failed. A retryable failure queues the trial again and counts one crash."""

    kind: Literal["failed"] = "failed"
    error: FailureKind
    message: Annotated[Text, BeforeValidator(_make_storable)] = ""
    """The error message, cut after 8,192 characters and without the characters that Postgres cannot store.

    It is cut rather than refused: a refusal would lose the outcome.
    """
    retryable: bool = False


Outcome = Annotated[Completed | Pruned | Infeasible | Failed, Field(discriminator="kind")]


class Settled(Message):
    """The state of a trial after its lease was settled; after a retryable failure it is queued again."""

    state: TrialState
