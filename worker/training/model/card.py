"""The model card: what a model file says of itself, and all that is needed to use it."""

from collections.abc import Mapping

from pydantic import Field

from trimtab.contract.message import Message, Text
from trimtab.contract.metrics import TargetKind, TaskKind
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from trimtab.contract.teachers import Teacher

CARD_KEY = "trimtab.model"
"""Where the metadata of a safetensors file hold the card, as JSON."""


class Scores(Message):
    """What a model was measured at; accuracies in [0, 1], the test ones measured once, at the end."""

    objective: str = "accuracy"
    """The metric that trials were compared by."""
    metrics: Mapping[str, float] = Field(default_factory=dict[str, float])
    """All that was measured, by its name: `validation_rmse`, `test_rmse`, `test_rmse_before`, ..."""
    validation_accuracy: float | None = None
    """Null where the task knows no accuracy, like the others below."""
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_count: int | None = None
    test_accuracy_before: float | None = None
    """Of the pretrained model before any training on this task."""
    linear_probe_test_accuracy: float | None = None
    """Of a linear classifier on the frozen pretrained backbone's features."""


class CardTarget(Message):
    """What outputs of the last layer stand for; a number is `mean` plus `std` times its output."""

    name: str
    kind: TargetKind
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0


class ModelCard(Message):
    """Written into the metadata of a model's file, which needs nothing else to predict."""

    backbone: Text
    kind: TaskKind = "classification"
    classes: tuple[str, ...]
    """What the last layer's outputs stand for, in order: of a classification its classes."""
    targets: tuple[CardTarget, ...] = ()
    """Of other tasks, what they predict."""
    image_size: int
    """Side in pixels of the square pictures that it was trained on."""
    channels: int
    """1 if these were grey, 3 if they were in colour."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    recipe: Recipe
    pretrained: Model | None = None
    """The model that training began with; None for random weights."""
    teacher: Teacher | None = None
    """Whose answers it learned beside the labels."""
    seed: int
    data_sha256: str
    counts: Mapping[str, int]
    """Pictures in each split."""
    scores: Scores
    fonts: Mapping[str, str] = Field(default_factory=dict[str, str])
    """Of a model pretrained on glyphs: sha256 and name of every font."""
