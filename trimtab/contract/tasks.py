"""What to learn, from which data, and which pretrained model to begin with."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Literal, Self, cast

from pydantic import AfterValidator, Field, model_validator

from trimtab.contract.backbones import (
    CIFAR_RESNETS,
    GLYPHNET,
    HF,
    HF_PREFIX,
    OWN_NAME,
    OWN_PREFIX,
    TEXT_BACKBONES,
    TIMM_NAME,
    TIMM_PREFIX,
    TORCHVISION_BACKBONES,
    reads_text,
)
from trimtab.contract.datasets import Dataset, Modality, TableDataset, TargetColumn
from trimtab.contract.message import Int, Message, Number, Text
from trimtab.contract.metrics import (
    METRICS,
    TARGET_METRICS,
    Direction,
    TargetKind,
    TaskKind,
    direction_of,
    is_bounded,
)

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
        if isinstance(self.dataset, TableDataset):
            _check_columns(self.kind, self.dataset)
        elif self.kind != "classification":
            raise ValueError(
                f"a {self.kind} needs a dataset of kind csv or jsonl; {self.dataset.kind} holds classes"
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
        if not isinstance(self.dataset, TableDataset):
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
    def modality(self) -> Modality:
        """The kind of the samples."""
        return self.dataset.modality

    @property
    def is_bounded(self) -> bool:
        """Whether the objective lies within 0 and 1."""
        return is_bounded(self.metric)

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


def _check_columns(kind: TaskKind, table: TableDataset) -> None:
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
    known = (GLYPHNET, *CIFAR_RESNETS, *TORCHVISION_BACKBONES, *TEXT_BACKBONES)
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
        "timm:NAME for one of timm, bert or hf for texts, or user:NAME, which the workers' owner has registered on them."
    )
    weights: Annotated[Text, Field(max_length=4096), AfterValidator(_known_weights)] = Field(
        default="default",
        description="default: the backbone's published weights; none: random ones; else a file the workers can read, or for "
        "bert and hf a folder as it is published, with config.json, weights and tokenizer.",
    )
    partial_weights: bool = Field(
        default=False,
        description="Whether weights may fit less than 90 % of the backbone; what they do not fit begins at random.",
    )

    layers: Annotated[Int, Field(ge=1, le=1_000)] | None = Field(
        default=None,
        description="Layers of a text model that are kept, such as a student's; null: all.",
    )
    layers_kept: Literal["spread", "first"] = Field(
        default="spread",
        description="Which layers are kept where `layers` says how many: every k-th from the first on, or the first ones.",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_the_short_form(cls, model: object) -> object:
        """`backbone: hf:FOLDER` says folder and backbone in one."""
        if not isinstance(model, Mapping):
            return model
        given = cast("Mapping[str, object]", model)
        backbone = given.get("backbone")
        if not isinstance(backbone, str) or not backbone.startswith(HF_PREFIX):
            return given
        if "weights" in given:
            raise ValueError(
                f"`backbone: {HF_PREFIX}FOLDER` names the folder already: leave `weights` out, or set `backbone` to {HF}"
            )
        return {**given, "backbone": HF, "weights": backbone.removeprefix(HF_PREFIX)}

    @model_validator(mode="after")
    def _is_whole_where_it_reads_text(self) -> Self:
        if reads_text(self.backbone) and self.weights in ("default", "none"):
            raise ValueError(
                f"{self.backbone} takes its weights, its shape and its tokenizer from a folder: set `weights` to the path of one "
                "as it is published, with config.json, model.safetensors and tokenizer.json; a name is not fetched from a hub"
            )
        if self.layers is not None and not reads_text(self.backbone):
            raise ValueError(
                "`layers` says how much is kept of bert or hf; other backbones are taken whole"
            )
        return self

    @model_validator(mode="after")
    def _has_published_weights(self) -> Self:
        if self.weights == "default" and self.backbone.startswith(OWN_PREFIX):
            raise ValueError(
                "a backbone of your own has no published weights: set `weights` to a path, "
                "or to none for those that its function makes"
            )
        return self
