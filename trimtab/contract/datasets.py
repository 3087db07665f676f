"""The data sets that a task may name: files as the workers see them, and what stands in which column."""

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from trimtab.contract.message import Message, Number, Text
from trimtab.contract.metrics import TargetKind

Modality = Literal["image", "text"]
"""The kinds of samples that data sets have and backbones take."""


class BuiltinDataset(Message):
    """A data set that comes with the worker and needs no download."""

    modality: ClassVar[Modality] = "image"
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

    modality: ClassVar[Modality] = "image"
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

    modality: ClassVar[Modality] = "image"
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


class TableDataset(Message):
    """What all tables have in common: where the file is, and what is to be learned of each row."""

    path: Annotated[Text, Field(min_length=1, max_length=4096)] = Field(
        description="The file, as the workers see it, in UTF-8."
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
        description="Column that says what a row has in common with others, such as the person on the picture or the "
        "author of the text: all of a group go to one split.",
    )

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of a sample's texts; none where a sample is a picture."""
        return ()

    @property
    def sample_columns(self) -> tuple[str, ...]:
        """The columns that a sample is made of."""
        return self.texts

    @property
    def modality(self) -> Modality:
        """The kind of the samples."""
        return "text" if self.texts else "image"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (
            *self.sample_columns,
            *self.names,
            *([self.split] if self.split else []),
            *([self.group] if self.group else []),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to learn."""
        return tuple(one if isinstance(one, str) else one.column for one in self.targets)

    @model_validator(mode="after")
    def _each_column_has_one_use(self) -> Self:
        used = self.columns
        if twice := sorted({name for name in used if used.count(name) > 1}):
            raise ValueError(f"each column has one use; named twice: {', '.join(twice)}")
        return self


TextColumns = ColumnName | tuple[ColumnName, ColumnName]
"""One column of texts, or two: then a sample is a pair, such as a premise and a hypothesis."""


class CsvDataset(TableDataset):
    """A CSV table, with commas and the names of its columns in the first line; an empty cell is a label not known.

    Its samples are pictures, or texts where `text` names a column.
    """

    kind: Literal["csv"]
    image: ColumnName | None = Field(
        default=None,
        description="Column of the pictures' paths, relative to the file's folder; `image`, unless `text` is given.",
    )
    text: TextColumns | None = Field(
        default=None, description="Column of the texts; or two columns, of pairs of texts."
    )

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of a sample's texts; none where a sample is a picture."""
        return _columns_of(self.text)

    @property
    def sample_columns(self) -> tuple[str, ...]:
        """The columns that a sample is made of."""
        return self.texts or (self.image or "image",)

    @model_validator(mode="after")
    def _has_one_kind_of_samples(self) -> Self:
        if self.text is not None and self.image is not None:
            raise ValueError("a table has either pictures or texts: remove `image` or `text`")
        return self


class JsonlDataset(TableDataset):
    """A file with a JSON object in each line, whose texts are learned from; null is a label that is not known."""

    kind: Literal["jsonl"]
    text: TextColumns = Field(
        description="The field of the texts; or two fields, of pairs of texts."
    )

    @property
    def texts(self) -> tuple[str, ...]:
        """The fields of a sample's texts."""
        return _columns_of(self.text)


def _columns_of(text: TextColumns | None) -> tuple[str, ...]:
    if text is None:
        return ()
    return (text,) if isinstance(text, str) else text


Dataset = Annotated[
    BuiltinDataset | ImageFolderDataset | TorchvisionDataset | CsvDataset | JsonlDataset,
    Field(discriminator="kind"),
]
