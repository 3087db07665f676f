"""A study of plain Optuna that comes in as history: to look at, and to begin other studies with."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NaiveDatetime

from trimtab.contract.message import Int, Message, Name, Number, Text
from trimtab.contract.metrics import Direction

MOST_TRIALS = 10_000
MOST_NAMES = 1_000
IMPORTED = "trimtab:imported"
"""The attribute of a study in Optuna's tables that says that it was imported, and from where."""

TrialEnd = Literal["complete", "pruned", "failed", "zombie"]
"""How a trial ended; zombie: it stood as running, with nobody left to run it."""


ParameterName = Annotated[Text, Field(min_length=1, max_length=512)]
Step = Annotated[Int, Field(ge=-(2**31), lt=2**31)]


class ImportedTrial(Message):
    """One trial as Optuna's tables have it."""

    number: Annotated[Int, Field(ge=0, lt=2**31)]
    state: TrialEnd
    value: Number | None = None
    params: Mapping[ParameterName, tuple[Annotated[Int, Field(ge=0)], Number]] = Field(
        default_factory=dict[str, tuple[int, float]]
    )
    """The place of each hyperparameter's distribution in the study's list, and the value as Optuna keeps it."""
    curve: tuple[tuple[Step, Number | None], ...] = ()
    """Intermediate values by their steps; null: was not finite."""
    began: NaiveDatetime | None = None
    """In the time of the machine that ran it, as Optuna has it."""
    ended: NaiveDatetime | None = None


class StudyImport(Message):
    """What was read of a study of plain Optuna."""

    name: Name
    """The name that it gets here."""
    source: Annotated[Text, Field(max_length=1000)]
    """The name that it had."""
    direction: Direction
    distributions: Annotated[tuple[Text, ...], Field(max_length=MOST_NAMES)] = ()
    """Each distribution once, as Optuna writes it."""
    trials: Annotated[tuple[ImportedTrial, ...], Field(max_length=MOST_TRIALS)]
    left_out: Annotated[Int, Field(ge=0)] = 0
    """The number of trials that wait or still run, which are no history."""


class ImportReport(Message):
    """What has come in."""

    name: str
    source: str
    direction: Direction
    complete: int
    pruned: int
    failed: int
    zombies: int
    """Trials that stood as running without a sign of life; they are kept as failed."""
    left_out: int
    """Trials that waited or still ran."""
    usable: int
    """Complete trials with a finite value and at least one hyperparameter that a recipe has."""
    names: tuple[str, ...]
    """The hyperparameters that a recipe has."""
    strange_names: tuple[str, ...]
    """Those that no recipe has: they are shown, and nothing is transferred of them."""
    changed_names: tuple[str, ...]
    """Those whose range changed while the study ran."""
