"""Studies: the document that a person writes, and what the service answers about it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from trimtab.contract import search_space
from trimtab.contract.faults import MOST_FAULTS, Fault, hint, refuse
from trimtab.contract.final_report import FinalScores
from trimtab.contract.finish import Finish, Refits
from trimtab.contract.hyperparameters import Hyperparameter, hyperparameters
from trimtab.contract.message import Int, Message, Name, Number
from trimtab.contract.pruners import MedianPruner, NoPruner, Pruner, with_parameters_inside
from trimtab.contract.recipe import Recipe
from trimtab.contract.records import StudyData
from trimtab.contract.search_space import Choices, Dimension, FloatRange, Scalar, Space
from trimtab.contract.tasks import Model, Task
from trimtab.contract.teachers import Teacher

StudyState = Literal[
    "active", "paused", "stopping", "finalising", "done", "cancelled", "deleting"
]
EndedBy = Literal["trials", "wall_time", "exhausted", "stopped", "cancelled"]
"""What ended a study's search: its budget of trials or of time, the sampler's last point, or a person."""
SamplerName = Literal["tpe", "random", "grid"]


class Search(Message):
    """Who proposes and who stops."""

    sampler: SamplerName = "tpe"
    pruner: Pruner = MedianPruner(kind="median")
    seed: Annotated[Int, Field(ge=0, lt=2**31)] | None = 0
    """The same one gets one worker the same proposals; null: by chance, and then it stands in the study's document."""

    @model_validator(mode="before")
    @classmethod
    def _take_older_form(cls, given: object) -> object:
        return with_parameters_inside(given)

    @property
    def prunes(self) -> bool:
        """Whether anything judges running trials; if not, nobody need read what they reported."""
        return not isinstance(self.pruner, NoPruner)


class Budget(Message):
    """What a study may spend. Retries cost nothing; whichever limit is reached first ends the search.

    What its finish trains anew is part of it: the search has what the refits leave.
    """

    trials: Annotated[Int, Field(ge=1, le=1_000_000)]
    wall_time_s: Annotated[Number, Field(gt=0)] | None = None
    """Seconds from the first lease on in which the study is active; pauses do not count."""


class StudyDocument(Message):
    """What to learn, from which model, over which space, for how long."""

    name: Name
    task: Task
    model: Model
    teacher: Teacher | None = None
    """The model whose answers the trials learn beside the labels (knowledge distillation)."""
    space: Space
    fixed: Mapping[str, Scalar] = Field(default_factory=dict[str, Scalar])
    search: Search = Search()
    budget: Budget
    finish: Finish | None = None
    """What is made of the best trials; null: the usual for the budget, which the service writes into the document.

    Stored documents without it are of a release that evaluated the winner alone.
    """
    priority: Annotated[Int, Field(ge=0, le=1000)] = 500
    max_crashes: Annotated[Int, Field(ge=1, le=100)] = 3
    """A trial whose attempts crashed so often is given up; its failure tells the last reason."""
    lease_ttl_s: Annotated[Number, Field(ge=1, le=3600)] = 60.0
    """A worker that is silent for so long has lost its trial to the next."""

    @field_validator("space")
    @classmethod
    def _check_size(cls, space: Space) -> Space:
        search_space.check_size(space)
        return space

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, given: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Check what fields say of one another, also beside fields that are wrong themselves.

        A person who mends one fault should not meet the next one afterwards.
        """
        try:
            document = handler(given)
        except ValidationError as error:
            refuse(cls.__name__, _faults(_Readable.of(given)), beside=error)
            raise
        refuse(cls.__name__, _faults(_Readable.of(document)))
        return document

    @property
    def search_budget(self) -> Budget:
        """What the search may spend: the budget without what the refits of the finish cost, each as much as a trial."""
        refits = 0 if self.finish is None else self.finish.refits
        trials = max(1, self.budget.trials - refits)
        wall = self.budget.wall_time_s
        return Budget(
            trials=trials,
            wall_time_s=None if wall is None else wall * trials / self.budget.trials,
        )

    def recipe(self, sampled: Mapping[str, Scalar]) -> Recipe:
        """All that a worker needs to train: this study's fixed values and one trial's sampled ones."""
        return Recipe.model_validate({**self.fixed, **sampled})


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


class BestTrial(Message):
    """The completed trial of the best objective value."""

    number: int
    objective: str
    """The metric that trials are compared by, on the validation split."""
    value: float
    validation_accuracy: float | None = None
    """The value, where the objective is accuracy."""
    hyperparameters: Mapping[str, Scalar]


class Probe(Message):
    """What the first epoch of a study took, for an estimate of the rest."""

    epoch_s: float | None = None
    """Seconds that it trained and validated for."""
    memory_bytes: int | None = None
    """The most memory of the device that it took; null where the device does not tell."""


class WorkerSetAside(Message):
    """A worker that gets no more trials of a study, and why; until it registers anew, or the study is resumed."""

    worker: str
    problem: str
    at: datetime


class Study(Message):
    """One study as it stands."""

    name: str
    state: StudyState
    document: StudyDocument
    created_at: datetime
    trials_created: int
    progress: Progress
    """The trials of the search alone."""
    refits: Refits = Refits()
    best: BestTrial | None = None
    final: FinalScores | None = None
    blocked: bool = False
    """Whether the study waits because each live worker that could serve it has been set aside; `resume` tries again."""
    problem: str | None = None
    """Why a study is blocked, was paused by the service, or is done without a model."""
    set_aside: tuple[WorkerSetAside, ...] = ()
    """The workers that get no more of its trials, the last one first."""
    data: StudyData | None = None
    """The data that its trials are trained on, known once a first attempt has begun; others are refused."""
    probe: Probe | None = None
    """What its first epoch took; null before that."""
    ended_by: EndedBy | None = None
    """What ended the search; null while it goes on."""
    artifact_bytes: int = 0
    """What its trials' checkpoints and its model take on the service's disk."""


class StudySummary(Message):
    """One row of the list of studies."""

    name: str
    state: StudyState
    blocked: bool = False
    created_at: datetime
    trials: int
    """How many trials the search may have."""
    trials_created: int
    refits: int = 0
    """How many trainings on train and validation the budget pays beside them."""
    objective: str
    best_value: float | None = None
    best_validation_accuracy: float | None = None
    """The best value, where the objective is accuracy."""


class StudyPage(Message):
    """A page of the list, newest first; hand `next_page_token` back for the next one."""

    studies: tuple[StudySummary, ...]
    next_page_token: str | None = None


class Best(Message):
    """The answer of `/best`: the winner, and its scores on the sealed test split once the study is done."""

    study: str
    state: StudyState
    trial: BestTrial
    recipe: Recipe
    final: FinalScores | None = None
    problem: str | None = None
    """Why the study has no scores and no model, where it is done without them or is blocked."""


@dataclass(frozen=True)
class _Readable:
    """What can be read of a document, whether or not the rest of it is right."""

    space: Mapping[str, Dimension | None]
    """A dimension that is wrong by itself is None."""
    fixed: Mapping[str, Scalar]
    sampler: str
    taught: bool
    kind: str
    trials: int | None = None
    finish: Finish | None = None

    @classmethod
    def of(cls, document: object) -> "_Readable":
        if isinstance(document, StudyDocument):
            taught, kind = document.teacher is not None, document.task.kind
            return cls(
                document.space,
                document.fixed,
                document.search.sampler,
                taught,
                kind,
                document.budget.trials,
                document.finish,
            )
        fields = _fields(document)
        dimensions = {
            name: _dimension(one) for name, one in _fields(fields.get("space")).items()
        }
        return cls(
            dimensions,
            _fields(fields.get("fixed")),
            str(_fields(fields.get("search")).get("sampler")),
            fields.get("teacher") is not None,
            str(_fields(fields.get("task")).get("kind", "classification")),
        )


def _fields(given: object) -> Mapping[str, Any]:
    """Return the fields of an object; none if it is something else."""
    if not isinstance(given, Mapping):
        return {}
    fields = cast("Mapping[object, Any]", given)
    return {name: value for name, value in fields.items() if isinstance(name, str)}


def _dimension(given: object) -> Dimension | None:
    try:
        return TypeAdapter[Dimension](Dimension).validate_python(given)
    except ValidationError:
        return None


def _faults(readable: _Readable) -> Iterator[Fault]:
    """Yield what is wrong between the fields of a document."""
    known = hyperparameters()
    space, fixed = readable.space, readable.fixed
    yield from _unknown(space, fixed, known)
    yield from _illegal_fixed(fixed, known)
    yield from _unpaid(readable)
    if readable.taught and readable.kind != "classification":
        message = f"only a classification learns from a teacher, and this is a {readable.kind}"
        yield Fault(("teacher",), "untaught_kind", message)
    for name, dimension in space.items():
        if name in fixed:
            yield Fault(("fixed", name), "fixed_and_sampled", "stands in `space` as well")
        if name in known and dimension is not None:
            yield from _illegal_dimension(name, dimension, known[name])
    if readable.sampler == "grid":
        yield from _endless(space)


def _unpaid(readable: _Readable) -> Iterator[Fault]:
    finish, trials = readable.finish, readable.trials
    if finish is None or trials is None or trials >= finish.fewest_trials:
        return
    message = (
        f"needs a budget of {finish.fewest_trials} trials or more, and this one has {trials}: "
        f"{finish.ensemble} to choose from, and as many again for the refits"
        if finish.refit
        else f"needs {finish.ensemble} trials to average, and the budget has {trials}"
    )
    yield Fault(("finish",), "unpaid_finish", message)


def _unknown(
    space: Mapping[str, object],
    fixed: Mapping[str, Scalar],
    known: Mapping[str, Hyperparameter],
) -> Iterator[Fault]:
    named = [("space", name) for name in space] + [("fixed", name) for name in fixed]
    strange = [place for place in named if place[1] not in known]
    for place in strange[:MOST_FAULTS]:
        message = f"no worker understands this hyperparameter; {hint(place[1], known)}"
        yield Fault(place, "unknown_hyperparameter", message)


def _illegal_fixed(
    fixed: Mapping[str, Scalar], known: Mapping[str, Hyperparameter]
) -> Iterator[Fault]:
    try:
        Recipe.model_validate({name: fixed[name] for name in fixed if name in known})
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False):
            yield Fault(("fixed", *detail["loc"]), detail["type"], detail["msg"])


def _illegal_dimension(
    name: str, dimension: Dimension, known: Hyperparameter
) -> Iterator[Fault]:
    values = (
        dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high)
    )
    if isinstance(dimension, FloatRange) and known.kind != "float":
        message = f"a worker takes no real number here, but {_legal(known)}"
        yield Fault(("space", name), "illegal_range", message)
    elif not all(known.allows(value) for value in values):
        message = f"holds values outside what is legal: {_legal(known)}"
        yield Fault(("space", name), "illegal_range", message)


def _legal(known: Hyperparameter) -> str:
    if known.choices:
        return "one of " + ", ".join(known.choices)
    above = ">" if known.low_exclusive else ">="
    below = "<" if known.high_exclusive else "<="
    return f"{known.kind} {above} {known.low} and {below} {known.high}"


def _endless(space: Mapping[str, Dimension | None]) -> Iterator[Fault]:
    for name, dimension in space.items():
        if (
            isinstance(dimension, FloatRange)
            and dimension.step is None
            and dimension.low < dimension.high
        ):
            yield Fault(("space", name), "endless_grid", "a grid needs a step or choices here")
