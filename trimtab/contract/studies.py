"""Studies: the document that a person writes, and what the service answers about it."""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from trimtab.contract import search_space
from trimtab.contract.budget import Budget, EndedBy
from trimtab.contract.demand import Needs
from trimtab.contract.edits import SpaceEdit
from trimtab.contract.external import EPOCHS, ExternalTask
from trimtab.contract.faults import refuse
from trimtab.contract.final_report import FinalScores
from trimtab.contract.finish import Finish, Refits
from trimtab.contract.given import (
    with_objectives,
    with_space,
)
from trimtab.contract.leases import Checkpoint
from trimtab.contract.message import Flag, Int, Message, Name, Number
from trimtab.contract.metrics import Direction
from trimtab.contract.models import MODEL, GivenModel, modalities_of, models_of, names_of
from trimtab.contract.objectives import (
    COSTS,
    FORETOLD,
    OF_THE_MODEL,
    Constraint,
    Cost,
    Objective,
    Violated,
    better_of,
)
from trimtab.contract.progress import BestTrial, Progress
from trimtab.contract.readable import Place, Readable, readable_of
from trimtab.contract.recipe import Recipe
from trimtab.contract.records import Probe, StudyData
from trimtab.contract.search import Search
from trimtab.contract.search_space import Choices, Dimension, Scalar, Space
from trimtab.contract.starts import Start
from trimtab.contract.study_rules import faults
from trimtab.contract.tasks import Model, Task
from trimtab.contract.teachers import Teacher
from trimtab.contract.transfer import Source
from trimtab.contract.workers import WorkerSetAside

StudyState = Literal[
    "active", "paused", "stopping", "finalising", "done", "cancelled", "deleting"
]


def _refuse_other_words(given: object) -> object:
    if isinstance(given, str):
        message = (
            "is `auto`, or an object: the name of each hyperparameter, and its range or choices"
        )
        raise PydanticCustomError("space_type", message)
    return given


GivenSpace = Annotated[
    Space,
    BeforeValidator(_refuse_other_words, json_schema_input_type=Space | Literal["auto"]),
]
"""A space as people write it; the word is resolved before the fields of a document are read."""


class StudyDocument(Message):
    """What to learn, from which model, over which space, for how long."""

    name: Name
    task: Annotated[Task | ExternalTask, Field(discriminator="kind")]
    """What trimtab's workers adapt a model to; or `{kind: external}`, which loops of a person's own train."""
    model: GivenModel | None = None
    """The pretrained model; or several by name, of which each trial has one: then `space` has a dimension `model`.

    Only an external study has none.
    """
    teacher: Teacher | None = None
    """The model whose answers the trials learn beside the labels (knowledge distillation)."""
    space: GivenSpace = Field(default_factory=dict[str, Dimension])
    """The hyperparameters to search; `auto`, or nothing: those that matter for the kind of model, with priors."""
    auto_space: Flag = False
    """Whether `space` was made from `auto`."""
    fixed: Mapping[str, Scalar] = Field(default_factory=dict[str, Scalar])
    completed: tuple[str, ...] = ()
    """The names in `fixed` that the service filled in, from the best recipe that is known for the kind of model."""
    first_trials: Annotated[tuple[Mapping[str, Scalar], ...], Field(max_length=100)] = ()
    """Points of the space to try first, in this order; names that one lacks get values of the prior."""
    starts: Annotated[tuple[Start, ...], Field(max_length=100)] | None = None
    """The known recipes' points of the space, to be tried next; null: the service writes them when the study is created.

    Stored documents without them are of a release whose samplers proposed from the first trial on.
    """
    space_edits: Annotated[tuple[SpaceEdit, ...], Field(max_length=1000)] = ()
    """How the space was changed while the study ran, the first change first."""
    search: Search = Search()
    transferred: Annotated[tuple[Source, ...], Field(max_length=100)] | None = None
    """The earlier studies that gave points of `starts`, the nearest first, once the first trial has told its data.

    null: that is still to come. A study that nothing can be transferred to has none from the first moment on.
    """
    budget: Budget
    constraints: Annotated[tuple[Constraint, ...], Field(max_length=10)] = ()
    """What a trial must keep to be handed over; one that does not is completed, and infeasible."""
    objectives: Annotated[tuple[Objective, ...], Field(max_length=2)] = ()
    """Two metrics to find the best compromises of, the task's objective first; none: that one alone."""
    finish: Finish | None = None
    """What is made of the best trials; null: the usual for the budget, which the service writes into the document.

    Stored documents without it are of a release that evaluated the winner alone.
    """
    priority: Annotated[Int, Field(ge=0, le=1000)] = 500
    parallel: Annotated[Int, Field(ge=1, le=10_000)] | None = None
    """At most so many of its trials are leased at a time; null: no limit. Refits and the final evaluation do not count."""
    needs: Needs | None = None
    """What it needs of a worker's devices; null: its trials run on any."""
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
        given = with_objectives(with_space(given))
        try:
            document = handler(given)
        except ValidationError as error:
            refuse(cls.__name__, faults(_readable(given)), beside=error)
            raise
        refuse(cls.__name__, faults(_readable(document)))
        return document

    @property
    def awaits_transfer(self) -> bool:
        """Whether its starts change once more: when its first trial has told its data."""
        is_wanted = self.search.transfer not in ("none", "done_studies")
        return (
            is_wanted
            and not self.is_external
            and self.starts is not None
            and self.transferred is None
        )

    @property
    def search_budget(self) -> Budget:
        """What the search may spend: the budget without what the refits of the finish cost, each as much as a trial."""
        refits = 0 if self.finish is None else self.finish.trainings
        budget = self.budget
        trials = max(1, budget.trials - refits)
        share = trials / budget.trials
        left: dict[str, Any] = {
            "trials": trials,
            "wall_time_s": budget.wall_time_s and budget.wall_time_s * share,
            "device_seconds": budget.device_seconds and budget.device_seconds * share,
            "epochs": budget.epochs and max(1, budget.epochs - refits * self.epochs),
        }
        return budget.model_copy(update=left)

    @property
    def devices_per_trial(self) -> int:
        """The number of devices that each trial is trained on."""
        return 1 if self.needs is None else self.needs.devices_per_trial

    @property
    def is_external(self) -> bool:
        """Whether loops of a person's own train its trials, and none of trimtab's workers."""
        return isinstance(self.task, ExternalTask)

    @property
    def epochs(self) -> int:
        """The number of epochs of a trial; the most that one may have, where they are searched."""
        searched = self.space.get("epochs")
        if isinstance(searched, Choices):
            return max(int(choice or 0) for choice in searched.choices)
        return self.usual_epochs if searched is None else int(searched.high)

    @property
    def usual_epochs(self) -> int:
        """The number of epochs of a trial that has not sampled its own; 1 in an external study that does not say."""
        if not self.is_external:
            return self.recipe({}).epochs
        told = self.fixed.get(EPOCHS)
        return told if isinstance(told, int) else 1

    @property
    def numbered_trials(self) -> int:
        """The number of first trials that are made by their number, whoever claims them; the sampler proposes the others."""
        if self.starts is None or self.search.sampler == "grid":
            return 0
        return max(len(self.first_trials) + len(self.starts), self.search.initial_trials)

    @property
    def second(self) -> Objective | None:
        """The objective beside the task's own; None where that stands alone."""
        return self.objectives[1] if len(self.objectives) > 1 else None

    @property
    def second_direction(self) -> Direction | None:
        """Whether more or less of the second objective is better; None where there is none."""
        second = self.second
        return second and (second.direction or better_of(second.metric))

    @property
    def costs(self) -> tuple[Cost, ...]:
        """The costs that a constraint or the second objective names: workers have to measure them."""
        named = {one.metric for one in (*self.constraints, *self.objectives)}
        return tuple(cost for cost in COSTS if cost in named)

    @property
    def foretold(self) -> tuple[Constraint, ...]:
        """The constraints that a trial can be known to violate before its first epoch is over."""
        return tuple(one for one in self.constraints if one.metric in FORETOLD)

    @property
    def bounds_the_model(self) -> bool:
        """Whether the costs of using the model matter, so that it has to be one trial's and not an ensemble."""
        return not OF_THE_MODEL.isdisjoint(self.costs)

    def values(
        self, sampled: Mapping[str, Scalar], number: int | None = None
    ) -> dict[str, Scalar]:
        """This study's fixed values and a trial's sampled ones; None: a new one's."""
        of_trial = sampled if number is None else self.values_of(number, sampled)
        return {**self.fixed, **of_trial}

    def recipe(self, sampled: Mapping[str, Scalar], number: int | None = None) -> Recipe:
        """All that a worker needs to train but the model: `values`, and the defaults of the rest."""
        values = self.values(sampled, number)
        return Recipe.model_validate({name: values[name] for name in values if name != MODEL})

    def values_of(self, number: int, sampled: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
        """Return what a trial has of all that is searched: also what was not when it began."""
        if not self.space_edits:
            return sampled
        before = (dict(one.values) for one in self.space_edits if number < one.trials)
        return dict(ChainMap(dict(sampled), *before))

    def model_of(self, sampled: Mapping[str, Scalar]) -> Model:
        """Return the model of a trial with these sampled values."""
        models = models_of(self.model)
        return models[str(sampled[MODEL])] if names_of(self.model) else models[""]


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
    earlier_finals: tuple[FinalScores, ...] = ()
    """The scores of its earlier ends, the first one first: it was done, and got more budget."""
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
    model: Model | None = None
    """The pretrained model that it began with; null, of an older service: that of the document."""
    recipe: Recipe | None = None
    """null where a loop of a person's own trained it."""
    checkpoint: Checkpoint | None = None
    """What a loop of a person's own saved last of the trial, if it saved anything; null where a worker trained it."""
    final: FinalScores | None = None
    earlier_finals: tuple[FinalScores, ...] = ()
    """The scores of its earlier ends, the first one first: it was done, and got more budget."""
    constraints: tuple[Violated, ...] = ()
    """The study's constraints, each with the number of completed trials that violate it."""
    problem: str | None = None
    """Why the study has no scores and no model, where it is done without them or is blocked."""


def _readable(document: object) -> Readable:
    """Read what can be read of a document, whether or not the rest of it is right."""
    if isinstance(document, StudyDocument):
        taught, kind = document.teacher is not None, document.task.kind
        return Readable(
            document.space,
            document.fixed,
            document.search.sampler,
            taught,
            kind,
            document.budget.trials,
            document.finish,
            document.auto_space,
            document.completed,
            tuple(_points(document)),
            pruner=document.search.pruner,
            epochs=document.budget.epochs,
            epochs_of_trial=_epochs(document),
            models=names_of(document.model),
            constraints=document.constraints,
            objectives=document.objectives,
            objective=document.task.metric,
            metrics=_metrics(document.task),
            modality=document.task.modality,
            reads=modalities_of(document.model),
            has_model=document.model is not None,
            has_finish=document.finish is not None,
            transfer=document.search.transfer,
            has_needs=document.needs is not None,
        )
    return readable_of(document)


def _metrics(task: Task | ExternalTask) -> tuple[str, ...]:
    return task.reported if isinstance(task, ExternalTask) else task.metrics


def _epochs(document: StudyDocument) -> int:
    """Return the number of epochs of a trial, or 1 where what is fixed makes no recipe, which is told for itself."""
    try:
        return document.epochs
    except ValidationError:
        return 1


def _points(document: StudyDocument) -> Iterator[tuple[Place, Mapping[str, Scalar]]]:
    for number, values in enumerate(document.first_trials):
        yield ("first_trials", number), values
    for number, start in enumerate(document.starts or ()):
        yield ("starts", number, "values"), start.values
