"""Studies: the document that a person writes, and what the service answers about it."""

import difflib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from trimtab.contract import search_space
from trimtab.contract.message import Int, Message, Name, Number, Sha256
from trimtab.contract.recipe import Hyperparameter, Recipe, hyperparameters
from trimtab.contract.search_space import Choices, Dimension, FloatRange, Scalar
from trimtab.contract.tasks import Model, Task

StudyState = Literal[
    "active", "paused", "stopping", "finalising", "done", "cancelled", "deleting"
]
SamplerName = Literal["tpe", "random", "grid"]
PrunerName = Literal["none", "median"]


class Search(Message):
    """Who proposes and who stops. `seed` makes the proposals of one replica repeatable."""

    sampler: SamplerName = "tpe"
    pruner: PrunerName = "median"
    seed: Annotated[Int, Field(ge=0, lt=2**31)] = 0
    startup_trials: Annotated[Int, Field(ge=1, le=1000)] = 5
    """The pruner leaves everyone alone until so many trials have completed."""
    warmup_epochs: Annotated[Int, Field(ge=0, le=100_000)] = 0
    """The pruner looks at no epoch before this one (counted from 0)."""


class Budget(Message):
    """What a study may spend. Retries cost nothing; whichever limit is reached first ends the search."""

    trials: Annotated[Int, Field(ge=1, le=1_000_000)]
    wall_time_s: Annotated[Number, Field(gt=0)] | None = None
    """Seconds in which the study is active; pauses do not count."""


class StudyDocument(Message):
    """What to learn, from which model, over which space, for how long."""

    name: Name
    task: Task
    model: Model
    space: Mapping[str, Dimension]
    fixed: Mapping[str, Scalar] = Field(default_factory=dict[str, Scalar])
    search: Search = Search()
    budget: Budget
    priority: Annotated[Int, Field(ge=0, le=1000)] = 500
    parallelism: Annotated[Int, Field(ge=1, le=10_000)] | None = None
    """At most so many of the study's trials run at once."""
    max_crashes: Annotated[Int, Field(ge=1, le=100)] = 3
    """A trial whose attempts crashed so often is given up as poison."""
    lease_ttl_s: Annotated[Number, Field(ge=1, le=3600)] = 60.0
    """A worker that is silent for so long has lost its trial to the next."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        search_space.check_size(self.space)
        known = hyperparameters()
        for name in (*self.space, *self.fixed):
            if name not in known:
                raise ValueError(_unknown_hyperparameter(name, known))
        if twice := sorted(set(self.space) & set(self.fixed)):
            raise ValueError(f"{', '.join(twice)}: both in `space` and in `fixed`")
        _check_fixed(self.fixed)
        for name, dimension in self.space.items():
            _check_dimension(name, dimension, known[name])
        if self.search.sampler == "grid":
            _check_grid(self.space)
        return self

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
    validation_accuracy: float
    hyperparameters: Mapping[str, Scalar]


class FinalScores(Message):
    """What the winner scored on the sealed test split, measured once, and the model that did it."""

    test_accuracy_before: float | None = None
    """The pretrained model before any training on this task."""
    linear_probe_test_accuracy: float | None = None
    """A linear classifier on the frozen backbone's features."""
    test_accuracy: float
    test_count: int
    model_sha256: Sha256


class Study(Message):
    """One study as it stands."""

    name: str
    state: StudyState
    document: StudyDocument
    created_at: datetime
    trials_created: int
    progress: Progress
    best: BestTrial | None = None
    final: FinalScores | None = None
    problem: str | None = None
    """Why a study that is done has no model."""


class StudySummary(Message):
    """One row of the list of studies."""

    name: str
    state: StudyState
    created_at: datetime
    trials: int
    trials_created: int
    best_validation_accuracy: float | None = None


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


def _unknown_hyperparameter(name: str, known: Mapping[str, Hyperparameter]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
    return f"no worker understands the hyperparameter {name[:128]!r}{hint}"


def _check_fixed(fixed: Mapping[str, Scalar]) -> None:
    try:
        Recipe.model_validate(dict(fixed))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"fixed.{where}: {first['msg']}") from None


def _check_dimension(name: str, dimension: Dimension, known: Hyperparameter) -> None:
    if isinstance(dimension, FloatRange) and known.kind != "float":
        raise ValueError(f"space.{name}: a worker takes no real number here ({known.kind})")
    values = (
        dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high)
    )
    if not all(known.allows(value) for value in values):
        raise ValueError(f"space.{name}: holds values outside what is legal: {_legal(known)}")


def _legal(known: Hyperparameter) -> str:
    if known.choices:
        return "one of " + ", ".join(known.choices)
    above = ">" if known.low_exclusive else ">="
    below = "<" if known.high_exclusive else "<="
    return f"{known.kind} {above} {known.low} and {below} {known.high}"


def _check_grid(space: Mapping[str, Dimension]) -> None:
    endless = [
        name
        for name, d in space.items()
        if isinstance(d, FloatRange) and d.step is None and d.low < d.high
    ]
    if endless:
        raise ValueError(f"a grid needs a step or choices for {', '.join(endless)}")
