"""The splits: train is learned from, validation compares trials, and test stays sealed until the final evaluation.

Who goes where, the content of each sample decides for itself. A seed of the whole data set would deal all samples anew
as soon as one is added, and a study that then goes on would be measured on what it has learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.data.errors import ClassTooSmall
from worker.data.source import Part, Sample

_IN_TURN: tuple[Part, ...] = ("test", "validation")
"""Validation lies between the others: what the end of a range moves never comes from train into test."""
PARTS: tuple[Part, ...] = ("train", "validation", "test")
Splits = Mapping[Part, tuple[Sample, ...]]


def draw_of(digest: str) -> int:
    """Return the number that a sample is dealt by: the first 64 bits of a sha256, written in hexadecimal digits."""
    return int(digest[:16], 16)


def assign(
    samples: Sequence[Sample],
    classes: Sequence[str],
    *,
    validation: float,
    test: float,
    draws: Sequence[int],
) -> tuple[Splits, tuple[str, ...]]:
    """Divide the samples into three splits. A split that the data set brings is kept; the others are taken from train.

    The division is stratified: each class is divided on its own, with at least one picture for each split. Where the
    labels are not classes, all pictures are divided together. In the order of their draws the first go to test, the
    next to validation, and train keeps the others. A sample more or less therefore moves the ends of these three
    ranges by one place each, which is at most three samples of its class, none of them between train and test.
    Samples of the same draw stay together, so that no split that is made here shares a picture with another; those of
    several classes are divided with the class that most of them have.

    Args:
        samples: All samples, in an order that depends on the data alone; samples without a split count as train.
        classes: The class names, for messages; empty if the labels are not classes.
        validation: The share of train that becomes validation if the data set brings none, in (0, 1).
        test: The share of train that becomes test if the data set brings none, in (0, 1).
        draws: A number for each sample, made of its content or its group alone (`groups.draws`); copies have the same.

    Returns:
        The three splits, each in the order of `samples`, and notes on them for the person.

    Raises:
        ClassTooSmall: A class has too few different pictures, or too few groups, to give each split one.
    """
    rows = Rows(
        draws=np.array(draws, dtype=np.uint64),
        labels=np.array(
            [one.label if isinstance(one.label, int) and classes else 0 for one in samples],
            dtype=np.int32,
        ),
        parts=np.array(
            [-1 if one.part is None else PARTS.index(one.part) for one in samples],
            dtype=np.int8,
        ),
    )
    grouped = any(sample.group is not None for sample in samples)
    places, notes = assign_rows(
        rows, classes, validation=validation, test=test, grouped=grouped
    )
    splits: Splits = {
        part: tuple(samples[row] for row in np.flatnonzero(places == place).tolist())
        for place, part in enumerate(PARTS)
    }
    return splits, notes


@dataclass(frozen=True, slots=True)
class Rows:
    """What decides where each of N samples goes, in arrays: a table may have more rows than fit in memory as objects.

    Attributes:
        draws: The number that each is dealt by, uint64 `(N,)`.
        labels: The position of its class, int32 `(N,)`; 0 where the labels are not classes.
        parts: The place in `PARTS` of the split that the data set puts it in, int8 `(N,)`; -1 for none.
    """

    draws: NDArray[np.uint64]
    labels: NDArray[np.int32]
    parts: NDArray[np.int8]


def assign_rows(
    rows: Rows,
    classes: Sequence[str],
    *,
    validation: float,
    test: float,
    grouped: bool,
    noun: str = "picture",
) -> tuple[NDArray[np.int8], tuple[str, ...]]:
    """Divide samples as `assign` does.

    Args:
        rows: The samples.
        classes: The class names; empty if the labels are not classes.
        validation: The share of train that becomes validation if the data set brings none.
        test: The share of train that becomes test if the data set brings none.
        grouped: Whether any sample has a group, for messages.
        noun: The word for one sample in messages.

    Returns:
        The place in `PARTS` of each sample's split, int8 `(N,)`, and notes for the person.

    Raises:
        ClassTooSmall: A class has too few different samples, or too few groups, to give each split one.
    """
    shares: dict[Part, float] = {"validation": validation, "test": test}
    brought: set[int] = set(np.unique(rows.parts).tolist())
    wanted: dict[Part, float] = {
        part: share for part, share in shares.items() if PARTS.index(part) not in brought
    }
    parts = rows.parts.copy()
    divisible = parts <= 0
    strata, of_stratum = _strata(rows.draws[divisible], rows.labels[divisible])
    dealt = np.zeros(len(strata), dtype=np.int8)
    sizes: dict[int, int] = {}
    for label in np.unique(of_stratum).tolist():
        members = np.flatnonzero(of_stratum == label)  # In the order of their draws.
        sizes[label] = len(members)
        dealt[members] = _deal(len(members), wanted)
    parts[divisible] = dealt[np.searchsorted(strata, rows.draws[divisible])]
    for label, name in enumerate(classes or (None,)):
        held = np.unique(parts[divisible & (rows.labels == label)])
        if {PARTS[place] for place in held.tolist()} != {"train", *wanted}:
            count = sizes.get(label, 0)
            raise ClassTooSmall(name, count, len(wanted) + 1, grouped=grouped, noun=noun)
    notes = tuple(_note(*taken) for taken in wanted.items() if brought - {-1})
    return parts, notes


def _strata(
    draws: NDArray[np.uint64], labels: NDArray[np.int32]
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Return the different draws in their order, each with its label: of several, the one that most have.

    It takes some tens of bytes a row: a table may have many millions.
    """
    order = np.argsort(draws)
    draws, labels = draws[order], labels[order]
    del order
    again = draws[1:] == draws[:-1]
    mixed = np.unique(draws[1:][again & (labels[1:] != labels[:-1])])
    if len(mixed):
        # A draw's rows lie side by side, so that the first of them stands for all.
        labels[np.searchsorted(draws, mixed)] = _commonest(draws, labels, mixed)
    first = np.concatenate([[True], ~again])[: len(draws)]
    return draws[first], labels[first]


def _commonest(
    draws: NDArray[np.uint64], labels: NDArray[np.int32], mixed: NDArray[np.uint64]
) -> NDArray[np.int32]:
    """Return the label that most rows of each draw have; of those that are as common, the first class.

    Args:
        draws: The draws of all rows, in their order.
        labels: The labels of the rows.
        mixed: The draws that have several labels, in their order.
    """
    ends = zip(
        np.searchsorted(draws, mixed).tolist(),
        np.searchsorted(draws, mixed, side="right").tolist(),
        strict=True,
    )
    found = [np.bincount(labels[begin:end]).argmax() for begin, end in ends]
    return np.array(found, dtype=np.int32)


def _deal(count: int, shares: Mapping[Part, float]) -> NDArray[np.int8]:
    """Return the places in `PARTS` of a class's draws, in their order; if they are too few, all stay in train."""
    dealt = np.zeros(count, dtype=np.int8)
    if count <= len(shares):
        return dealt
    counts = _counts(count, shares)
    begin = 0
    for part in _IN_TURN:
        end = begin + counts.get(part, 0)
        dealt[begin:end] = PARTS.index(part)
        begin = end
    return dealt


def _counts(whole: int, shares: Mapping[Part, float]) -> Mapping[Part, int]:
    counts: dict[Part, int] = {}
    for position, (part, share) in enumerate(shares.items()):
        # Each later split and train must still get a picture.
        most = whole - sum(counts.values()) - (len(shares) - position)
        counts[part] = min(max(1, round(share * whole)), most)
    return counts


def _note(part: Part, share: float) -> str:
    return f"the data set brings no {part} split: {share:.0%} of train were taken for it"
