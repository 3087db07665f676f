"""What a worker found when it began a trial: data, splits, weights, machine.

It is kept for ever, so nothing in it can grow: lists name the first of what they count, and lines are cut. The largest
record has less than 64 KiB.
"""

import json
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from trimtab.contract.message import Int, Message, Sha256, Text
from trimtab.contract.text import storable

MOST_CLASSES = 100
MOST_NAMED = 20
MOST_TENSORS = 10
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
"""Text from the worker's machine: cut after 200 bytes, and cleaned of what Postgres cannot hold."""


class ClassCount(Message):
    """Pictures of one class in each split."""

    name: Line
    train: Count
    validation: Count
    test: Count


class SkippedFile(Message):
    """A file that could not be read, and why."""

    path: Line
    reason: Line


class Skipped(Message):
    """Files that were left out before the splits were made."""

    count: Count = 0
    first: Annotated[tuple[SkippedFile, ...], Field(max_length=MOST_NAMED)] = ()


class Twins(Message):
    """Two pictures of the same content."""

    paths: tuple[Line, Line]
    parts: tuple[Part, Part]
    same_label: bool


class Duplicates(Message):
    """Pictures of the same content, found by hash."""

    copies: Count = 0
    """Pictures that repeat another one."""
    across_splits: Count = 0
    """Contents that are in more than one split: what is measured there was seen in training."""
    conflicting_labels: Count = 0
    """Contents that have more than one label: some of them are mislabelled."""
    first: Annotated[tuple[Twins, ...], Field(max_length=MOST_NAMED)] = ()
    """Those across splits before those of several labels, and these before the others."""


class Names(Message):
    """How many tensors, and the first of their names."""

    count: Count = 0
    first: Annotated[tuple[Line, ...], Field(max_length=MOST_TENSORS)] = ()


class LoadedWeights(Message):
    """What became of the tensors of a weights file and of those of the network."""

    source: Line
    matched: Names
    left_out: Names
    """In both, but of another shape: the head of another task."""
    quantised: Names = Names()
    """In both, but in the file as integers or in 8 bits, which are no weights without their scales."""
    missing: Names
    """In the network only."""
    unused: Names
    """In the file only."""


class Environment(Message):
    """What the trial runs on."""

    device: Line
    precision: Line
    torch: Line


class TrialRecord(Message):
    """What the worker found when it began this attempt."""

    data_sha256: Sha256
    split_sha256: Sha256 | None = None
    """Of which picture is in which split."""
    pictures: dict[Part, Count]
    """In each split."""
    classes: Count = 0
    class_counts: Annotated[tuple[ClassCount, ...], Field(max_length=MOST_CLASSES)] = ()
    """Of the first hundred classes."""
    labels_used: Count
    """Labelled pictures of the train split that are learned from: all of it, unless `shots` says otherwise."""
    skipped: Skipped = Skipped()
    duplicates: Duplicates = Duplicates()
    weights: LoadedWeights | None = None
    notes: Annotated[tuple[Line, ...], Field(max_length=MOST_NAMED)] = ()
    environment: Environment
