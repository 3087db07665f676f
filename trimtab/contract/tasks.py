"""What to learn, from which data, and which pretrained model to begin with."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from trimtab.contract.backbones import (
    CIFAR_RESNETS,
    GLYPHNET,
    OWN_NAME,
    OWN_PREFIX,
    TIMM_NAME,
    TIMM_PREFIX,
    TORCHVISION_BACKBONES,
)
from trimtab.contract.message import Message, Number, Text
from trimtab.contract.metrics import (
    METRICS,
    TARGET_METRICS,
    Direction,
    TargetKind,
    TaskKind,
    direction_of,
)


class BuiltinDataset(Message):
    """A data set that comes with the worker and needs no download."""

    kind: Literal["builtin"]
    name: Literal["digits"] = Field(
        description="digits: scikit-learn's 1,797 handwritten digits, 8 by 8 grey pixels, 10 classes."
    )


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    return pattern


GroupPattern = Annotated[
    Text, Field(min_length=1, max_length=200), AfterValidator(_regular_expression)
]


class ImageFolderDataset(Message):
    """Pictures in a folder that the workers can read, one folder per class.

    Either `train`, `val` and `test` folders, or others of their usual names in any case, that hold the class folders
    (what is missing of the last two is split off `train`), or the class folders alone.
    """

    kind: Literal["image_folder"]
    path: Annotated[Text, Field(min_length=1, max_length=4096)] = Field(
        description="The folder, as the workers see it."
    )
    group: GroupPattern | None = Field(
        default=None,
        description="A regular expression (Python's) that finds in each picture's path below the folder which group it "
        "belongs to, by what its parentheses capture or else by its whole match: all of a group go to one split.",
    )


class TorchvisionDataset(Message):
    """A public data set by its name in torchvision, in torchvision's own files; its published splits are kept."""

    kind: Literal["torchvision"]
    name: Literal[
        "CIFAR10",
        "CIFAR100",
        "DTD",
        "EuroSAT",
        "FGVCAircraft",
        "FashionMNIST",
        "Flowers102",
        "Food101",
        "GTSRB",
        "KMNIST",
        "MNIST",
        "OxfordIIITPet",
        "SVHN",
    ]
    root: Annotated[Text, Field(min_length=1, max_length=4096)] = Field(
        description="The folder that holds its files, as the workers see it; they download what is not there, "
        "unless they may not."
    )


ColumnName = Annotated[Text, Field(min_length=1, max_length=80)]


class TargetColumn(Message):
    """A column to learn, told what it holds."""

    column: ColumnName
    kind: TargetKind = Field(
        description="classification: names of classes; regression: numbers; binary: 0 or 1, true or false, yes or no."
    )
    weight: Annotated[Number, Field(gt=0, le=1_000_000)] = Field(
        default=1.0, description="Of this target's loss in the sum over all targets."
    )


class CsvDataset(Message):
    """A table of pictures and what is to be learned of each; an empty cell is a label that is not known."""

    kind: Literal["csv"]
    path: Annotated[Text, Field(min_length=1, max_length=4096)] = Field(
        description="The file, as the workers see it: UTF-8, commas, the names of its columns in the first line."
    )
    image: ColumnName = Field(
        default="image",
        description="Column of the pictures' paths, relative to the file's folder.",
    )
    targets: Annotated[
        tuple[ColumnName | TargetColumn, ...], Field(min_length=1, max_length=1000)
    ] = Field(description="Columns to learn; a bare name takes its kind from the task.")
    split: ColumnName | None = Field(
        default=None,
        description="Column that says train, val or test; training, valid, validation, dev and testing do too.",
    )

    group: ColumnName | None = Field(
        default=None,
        description="Column that says what a picture has in common with others, such as the person on it: all of a "
        "group go to one split.",
    )

    @model_validator(mode="after")
    def _each_column_has_one_use(self) -> Self:
        used = self.columns
        if twice := sorted({name for name in used if used.count(name) > 1}):
            raise ValueError(f"each column has one use; named twice: {', '.join(twice)}")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (
            self.image,
            *self.names,
            *([self.split] if self.split else []),
            *([self.group] if self.group else []),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to learn."""
        return tuple(one if isinstance(one, str) else one.column for one in self.targets)


Dataset = Annotated[
    BuiltinDataset | ImageFolderDataset | TorchvisionDataset | CsvDataset,
    Field(discriminator="kind"),
]

_KIND_OF_COLUMNS: Mapping[TaskKind, TargetKind] = {
    "classification": "classification",
    "regression": "regression",
    "multi_label": "binary",
}
"""What a column holds where the task has one kind of target."""

Share = Annotated[Number, Field(gt=0, lt=1)]
"""A part of a data set, between 0 and 1, both excluded."""


class Task(Message):
    """What the search adapts a model to. The test split is sealed: it is opened once, for the winner."""

    kind: TaskKind
    dataset: Dataset
    objective: Annotated[Text, Field(max_length=128)] | None = Field(
        default=None,
        description="What trials are compared by, on the validation split; null: the kind's usual metric. "
        "Whether more or less of it is better follows from it.",
    )
    validation: Share = Field(
        default=0.2,
        description="Share held out to compare trials by, unless the data set brings its own.",
    )
    test: Share = Field(
        default=0.2,
        description="Share sealed for the final evaluation, unless the data set brings its own.",
    )
    on_bad_file: Literal["fail", "skip"] = Field(
        default="fail",
        description="What to do about pictures that are broken, truncated, huge or no pictures, and rows of a table "
        "without a legible label: fail the trials with a list of them, or leave them out and record it.",
    )

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(
                "validation and test together must leave something to train on: their sum must be below 1"
            )
        return self

    @model_validator(mode="after")
    def _its_data_have_its_targets(self) -> Self:
        if isinstance(self.dataset, CsvDataset):
            _check_columns(self.kind, self.dataset)
        elif self.kind != "classification":
            raise ValueError(
                f"a {self.kind} needs a dataset of kind csv; {self.dataset.kind} holds classes"
            )
        return self

    @model_validator(mode="after")
    def _can_be_measured(self) -> Self:
        if self.metric not in (known := self.metrics):
            raise ValueError(f"the objective of this {self.kind} is one of {', '.join(known)}")
        return self

    @property
    def targets(self) -> tuple[TargetColumn, ...]:
        """The columns to learn, each with its kind; none where the data set is no table."""
        if not isinstance(self.dataset, CsvDataset):
            return ()
        return tuple(
            TargetColumn(column=one, kind=_KIND_OF_COLUMNS[self.kind])
            if isinstance(one, str)
            else one
            for one in self.dataset.targets
        )

    @property
    def metric(self) -> str:
        """Name of what trials are compared by."""
        return self.objective or METRICS[self.kind][0]

    @property
    def direction(self) -> Direction:
        """Whether more or less of the metric is better."""
        return direction_of(self.metric)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what is measured of this task on the validation split."""
        if self.kind != "multi_task":
            return METRICS[self.kind]
        of_columns = (
            f"{target.column}.{metric}"
            for target in self.targets
            for metric in TARGET_METRICS[target.kind]
        )
        return (*METRICS[self.kind], *of_columns)


def _check_columns(kind: TaskKind, table: CsvDataset) -> None:
    count = len(table.targets)
    if kind == "multi_task":
        if count < 2:
            raise ValueError("a multi_task has two or more targets")
        if bare := [one for one in table.targets if isinstance(one, str)]:
            raise ValueError(
                f"each target of a multi_task says what it holds: {{column: {bare[0]}, kind: ...}}"
            )
        return
    if kind != "multi_label" and count > 1:
        raise ValueError(f"a {kind} has one target; several make a multi_task")
    wanted = _KIND_OF_COLUMNS[kind]
    for one in table.targets:
        if not isinstance(one, str) and one.kind != wanted:
            raise ValueError(
                f"the target {one.column!r} of a {kind} is of kind {wanted}, not {one.kind}"
            )


def _known_backbone(name: str) -> str:
    known = (GLYPHNET, *CIFAR_RESNETS, *TORCHVISION_BACKBONES)
    if name in known:
        return name
    if name.startswith(OWN_PREFIX):
        return _own_backbone(name)
    if name.startswith(TIMM_PREFIX):
        return _timm_backbone(name)
    nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise ValueError(f"there is no backbone of this name; the nearest is {nearest!r}")


def _own_backbone(name: str) -> str:
    if OWN_NAME.fullmatch(name.removeprefix(OWN_PREFIX)):
        return name
    raise ValueError(
        f"{OWN_PREFIX} goes before a name of up to 64 letters, digits, '_', '.' and '-'"
    )


def _timm_backbone(name: str) -> str:
    # Whether there is such a model is known where timm is, on the workers.
    if TIMM_NAME.fullmatch(name.removeprefix(TIMM_PREFIX)):
        return name
    raise ValueError(
        f"{TIMM_PREFIX} goes before a name of timm's own models, such as {TIMM_PREFIX}resnet10t or "
        f"{TIMM_PREFIX}resnet10t.c3_in1k: small letters, digits and '_', and its published weights behind a dot"
    )


def _known_weights(weights: str) -> str:
    # What a file holds is told by its content. A bare word is a mistake, such as torchvision's own names of weights.
    is_path = ("." in weights or "/" in weights) and "://" not in weights
    if is_path or weights in ("default", "none"):
        return weights
    raise ValueError(
        "must be 'default', 'none' or the path of a file on the workers, such as weights.safetensors or ./weights"
    )


class Model(Message):
    """The pretrained model that a study begins with."""

    backbone: Annotated[Text, Field(max_length=100), AfterValidator(_known_backbone)] = Field(
        description="glyphnet, a classification model of torchvision or a CIFAR ResNet by its name, "
        "timm:NAME for one of timm, or user:NAME, which the workers' owner has registered on them."
    )
    weights: Annotated[Text, Field(max_length=4096), AfterValidator(_known_weights)] = Field(
        default="default",
        description="default: the backbone's published weights; none: random ones; else a file the workers can read.",
    )
    partial_weights: bool = Field(
        default=False,
        description="Whether weights may fit less than 90 % of the backbone; what they do not fit begins at random.",
    )

    @model_validator(mode="after")
    def _has_published_weights(self) -> Self:
        if self.weights == "default" and self.backbone.startswith(OWN_PREFIX):
            raise ValueError(
                "a backbone of your own has no published weights: set `weights` to a path, "
                "or to none for those that its function makes"
            )
        return self
