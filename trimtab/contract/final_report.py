"""The final report: which model is handed over and why, and how far its numbers can be trusted."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from trimtab.contract.message import Message, Sha256, Text
from trimtab.contract.records import Line

CandidateKind = Literal["winner", "refit", "ensemble", "linear_probe", "before"]
"""The best trial; its recipe trained on train and validation; the average of the best, with all their seeds; a linear model on
the pretrained features; the pretrained model as it was."""
MOST_CLASSES = 100


class Interval(Message):
    """A value with its 95 % interval.

    `low` and `high` are `value` where nothing can be told: the rows are too few, or too alike.
    """

    value: float
    low: float
    high: float


class Candidate(Message):
    """A model that could be handed over."""

    kind: CandidateKind
    validation_value: float | None = None
    """The objective on the validation split, by which it was chosen.

    Of a refit, which was trained on that split, that of the trials which it repeats; so of an average of one trial's refits.
    """
    test: Interval | None = None
    """The objective on the test split, measured after the choice; null where it was not measured."""
    trials: tuple[int, ...] = ()
    """The numbers of the trials that it comes from; none of a model that no trial has trained."""


class ClassScores(Message):
    """The test scores of one class of one target."""

    name: Line
    target: Line = ""
    """The target; empty where the task is one classification."""
    count: int
    """Test pictures of this class."""
    recall: float | None = None
    """The share of them that was told so; null where there are none."""
    precision: float | None = None
    """The share of the pictures told so that are; null where there are none."""


class Confusion(Message):
    """How often test pictures of one class were taken for another; only pairs that occur, the most frequent first."""

    target: Line = ""
    is_class: Line
    told_as: Line
    count: int


class Corrected(Message):
    """The validation value of the whole choice, corrected for having chosen the best.

    The choice is repeated on bootstrap samples of the validation rows, and its pick measured on the rows left out
    (Tsamardinos et al., Bootstrapping the out-of-sample predictions for efficient and accurate cross-validation,
    Machine Learning 107, 2018).
    """

    value: Interval
    """The corrected objective value of the winner."""
    first: float
    """That of the study's first completed trial, by the same samples."""
    gain: Interval
    """How much better the pick is than the first completed trial, in the objective's unit: above 0 is better."""
    trials: int
    """The number of trials that the choice was repeated over."""
    samples: int
    """The number of bootstrap samples; 0 where there was one trial, and so nothing to choose."""


class FinalReport(Message):
    """What the final evaluation found beside its scores."""

    handed_over: CandidateKind
    why: Annotated[Text, Field(max_length=1024)]
    """The reason of the choice, in words."""
    candidates: tuple[Candidate, ...]
    test: Interval
    """The objective of the model that is handed over, on the test split."""
    corrected: Corrected | None = None
    why_not_corrected: Annotated[Text, Field(max_length=512)] | None = None
    averaged_epochs: int = 1
    """The number of last epochs whose mean is a trial's value."""
    classes: Annotated[tuple[ClassScores, ...], Field(max_length=MOST_CLASSES)] = ()
    confusion: Annotated[tuple[Confusion, ...], Field(max_length=MOST_CLASSES)] = ()


class FinalScores(Message):
    """What the model that is handed over scored on the sealed test split, measured once."""

    objective: str
    """The metric of the values below."""
    test_value: float
    test_value_before: float | None = None
    """The value of the pretrained model before any training on this task."""
    linear_probe_test_value: float | None = None
    """The value of a linear model on the frozen backbone's features."""
    test_accuracy: float | None = None
    """Null where the task knows no accuracy; so are the next two."""
    test_accuracy_before: float | None = None
    linear_probe_test_accuracy: float | None = None
    test_count: int
    metrics: Mapping[str, float] = Field(default_factory=dict[str, float])
    """All that was measured, by its name."""
    model_sha256: Sha256
    """The model that is handed over."""
    validated_sha256: Sha256 | None = None
    """The winner as it was validated, where another model is handed over."""
    test_opened_before: int = 0
    """The number of times that the test split had been opened before, by evaluations of the study's earlier ends.

    More budget reopens a study that is done. Whoever had seen a score when they gave it has used the test split to choose:
    then this value flatters, and only new data can tell by how much.
    """
    report: FinalReport | None = None
    """Which model is handed over and why, and how far the numbers can be trusted; null of studies of older releases."""
