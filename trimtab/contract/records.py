"""What a worker found when it began a trial: data, splits, weights, machine.

Records are kept for ever, so their size is bounded: a list names only the first of what is counted, and long lines are
cut. The largest record has less than 80 KiB.
"""

import json
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from trimtab.contract.message import Int, Message, Number, Sha256, Text
from trimtab.contract.text import storable

MOST_CLASSES = 100
MOST_LEFT_OUT = 5
MOST_NAMED = 20
MOST_REASONS = 8
MOST_TENSORS = 10
MOST_STATISTICS = 16
LONGEST_LINE = 200

Part = Literal["train", "validation", "test"]
Count = Annotated[Int, Field(ge=0, lt=2**53)]


def _cut(text: object) -> object:
    if not isinstance(text, str):
        return text
    line = storable(text[:LONGEST_LINE])
    while len(json.dumps(line, ensure_ascii=False).encode()) > LONGEST_LINE:
        line = line[:-1]
    return line


Line = Annotated[Text, BeforeValidator(_cut)]
"""Text from the worker's machine, cut after 200 bytes and without the characters that Postgres cannot store."""


class ClassCount(Message):
    """The number of pictures of one class in each split."""

    name: Line
    train: Count
    validation: Count
    test: Count


class SkippedFile(Message):
    """A file that could not be read, and why."""

    path: Line
    reason: Line


class Skipped(Message):
    """Bad files: pictures that cannot be read, which were left out before the splits were made."""

    count: Count = 0
    first: Annotated[tuple[SkippedFile, ...], Field(max_length=MOST_NAMED)] = ()


class LeftOut(Message):
    """What lies in the data set's folders and is none of its pictures: files and whole folders, by reason."""

    reason: Line
    count: Count
    first: Annotated[tuple[Line, ...], Field(max_length=MOST_LEFT_OUT)] = ()


class Twins(Message):
    """Two pictures of the same content."""

    paths: tuple[Line, Line]
    parts: tuple[Part, Part]
    same_label: bool


class Duplicates(Message):
    """Pictures of the same content, found by hash."""

    copies: Count = 0
    """The number of pictures that repeat an earlier one."""
    across_splits: Count = 0
    """The number of contents that are in more than one split: what is measured on them was seen in training."""
    conflicting_labels: Count = 0
    """The number of contents that have more than one label: some of these pictures are mislabelled."""
    first: Annotated[tuple[Twins, ...], Field(max_length=MOST_NAMED)] = ()
    """The first pairs: copies across splits first, then copies with different labels, then the others."""


class Names(Message):
    """The number of tensors, and the first of their names."""

    count: Count = 0
    first: Annotated[tuple[Line, ...], Field(max_length=MOST_TENSORS)] = ()


class LoadedWeights(Message):
    """How the tensors of a weights file and those of the network match."""

    source: Line
    part: Line = ""
    """The keys under which the tensors stand in the file, such as `state_dict_ema` for averaged weights."""
    matched: Names
    left_out: Names
    """Tensors in both whose shapes differ, or that are a head for other classes."""
    head: bool = False
    """Whether the file's head was taken: its classes' names contain the task's."""
    quantised: Names = Names()
    """Tensors in both that the file holds as integers or in 8 bits: without their scales they are not weights."""
    missing: Names
    """Tensors of the network that the file does not have."""
    unused: Names
    """Tensors of the file that the network does not have."""


class Environment(Message):
    """The machine that the trial runs on."""

    device: Line
    precision: Line
    torch: Line
    threads: Count | None = None
    """The number of threads that compute the steps when the trial begins; null where a GPU does."""


class DataFeatures(Message):
    """Statistics of what a pretrained backbone makes of training samples; comparable where `backbone` is the same."""

    backbone: Line
    """The backbone, its weights and the size of its inputs."""
    values: Annotated[tuple[Number, ...], Field(min_length=1, max_length=MOST_STATISTICS)]
    """Means and standard deviations of its features, projected to a few numbers."""


class Fetched(Message):
    """What a worker fetched of a data set that is not a file of its own."""

    address: Line
    """The address, without a signature."""
    sha256: Sha256
    """The hash of the bytes that came: of an archive before it was unpacked."""
    bytes: Count
    version: Line
    """What its server tells it apart by: an ETag, else the time of its last change, else its size."""


class StudyData(Message):
    """The data that a study's trials are trained on, and their division into splits."""

    data_sha256: Sha256
    split_sha256: Sha256 | None = None
    """The hash of the division into splits: it changes when a picture moves to another split."""
    pictures: dict[Part, Count]
    """The number of pictures in each split."""
    classes: Count = 0
    class_counts: Annotated[tuple[ClassCount, ...], Field(max_length=MOST_CLASSES)] = ()
    """The counts of the first hundred classes."""
    skipped: Skipped = Skipped()
    input_size: Count | None = None
    """The size of the samples as the trial was given them: the side of pictures in pixels, of texts in tokens."""
    features: DataFeatures | None = None
    """null where the backbone has random weights, and of records of older releases."""
    fetched: Fetched | None = None
    """null where the data are files of the worker."""

    def is_same(self, other: "StudyData") -> bool:
        """Tell whether these are the same data, divided alike."""
        return (self.data_sha256, self.split_sha256) == (other.data_sha256, other.split_sha256)


class Texts(Message):
    """What became of the texts of a data set, counted over all splits."""

    length: Count
    """The most tokens that a text was stored with, those that begin and end it included."""
    longest: Count
    """The number of tokens of the longest text."""
    cut: Count
    """The number of texts that have more than `length` tokens and lost their ends."""
    cut_share: Number
    """The share of those in all texts, in [0, 1]."""
    unknown_share: Number
    """The share of tokens that the model's vocabulary lacks, in [0, 1]."""


class TrialRecord(StudyData):
    """What the worker found when it began this attempt."""

    labels_used: Count
    """The number of labelled pictures that are learned from: all of train, unless `shots` says fewer.

    A refit learns from those of validation too.
    """
    left_out: Annotated[tuple[LeftOut, ...], Field(max_length=MOST_REASONS)] = ()
    duplicates: Duplicates = Duplicates()
    texts: Texts | None = None
    """null where the samples are no texts."""
    weights: LoadedWeights | None = None
    notes: Annotated[tuple[Line, ...], Field(max_length=MOST_NAMED)] = ()
    environment: Environment

    @property
    def data(self) -> StudyData:
        """The part that all attempts of a study share."""
        return StudyData(**{name: getattr(self, name) for name in StudyData.model_fields})


class Probe(Message):
    """What the first epoch of a study took, for an estimate of the rest."""

    epoch_s: float | None = None
    """Seconds that it trained and validated for."""
    memory_bytes: int | None = None
    """The most memory of the device that it took; null where the device does not tell."""
