"""The splits: train is learned from, validation compares trials, and test stays sealed until the final evaluation."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from worker.data.errors import ClassTooSmall
from worker.data.source import Part, Sample

PARTS: tuple[Part, ...] = ("train", "validation", "test")
Splits = Mapping[Part, tuple[Sample, ...]]


def assign(
    samples: Sequence[Sample],
    classes: Sequence[str],
    *,
    validation: float,
    test: float,
    seed: int,
    contents: Sequence[int] | None = None,
) -> tuple[Splits, tuple[str, ...]]:
    """Divide the samples into three splits. A split that the data set brings is kept; the others are taken from train.

    The division is stratified: each class is divided on its own, with at least one picture for each split. Where the
    labels are not classes, all pictures are divided together. Copies of a picture go to the split of the first of
    them, so that no split that is made here shares a picture with another.

    Args:
        samples: All samples, in an order that depends on the data alone; samples without a split count as train.
        classes: The class names, for messages; empty if the labels are not classes.
        validation: The share of train that becomes validation if the data set brings none, in (0, 1).
        test: The share of train that becomes test if the data set brings none, in (0, 1).
        seed: The seed of the division. It comes from the hash of the data, never from a trial.
        contents: A number for each sample that exactly its copies share; None if all samples differ.

    Returns:
        The three splits, each in the order of `samples`, and notes on them for the person.

    Raises:
        ClassTooSmall: A class has too few different pictures to give each split one.
    """
    parts: list[Part] = [sample.part or "train" for sample in samples]
    shares: dict[Part, float] = {"validation": validation, "test": test}
    wanted: dict[Part, float] = {
        part: share for part, share in shares.items() if part not in parts
    }
    firsts = _firsts(parts, contents if contents and wanted else range(len(samples)))
    pool = np.array([row for row, first in firsts.items() if row == first], dtype=np.int64)
    labels = np.array([samples[row].label if classes else 0 for row in pool], dtype=np.int64)
    order = np.random.default_rng(seed)
    for label, name in enumerate(classes or ("all pictures",)):
        for part, rows in _draw(pool[labels == label], name, wanted, order).items():
            for row in rows:
                parts[row] = part
    for row, first in firsts.items():
        parts[row] = parts[first]
    splits: Splits = {
        wanted_part: tuple(
            sample for sample, part in zip(samples, parts, strict=True) if part == wanted_part
        )
        for wanted_part in PARTS
    }
    brings_splits = any(sample.part for sample in samples)
    return splits, tuple(_note(*taken) for taken in wanted.items() if brings_splits)


def _firsts(parts: Sequence[Part], contents: Sequence[int]) -> dict[int, int]:
    """Return for each row of train the first row of train with the same content."""
    seen: dict[int, int] = {}
    return {
        row: seen.setdefault(contents[row], row)
        for row, part in enumerate(parts)
        if part == "train"
    }


def _draw(
    members: NDArray[np.int64],
    name: str,
    shares: Mapping[Part, float],
    order: np.random.Generator,
) -> dict[Part, NDArray[np.int64]]:
    if len(members) <= len(shares):
        raise ClassTooSmall(name, len(members), len(shares) + 1)
    left = order.permutation(members)
    drawn: dict[Part, NDArray[np.int64]] = {}
    for position, (part, share) in enumerate(shares.items()):
        # Each later split and train must still get a picture.
        most = len(left) - (len(shares) - position)
        count = min(max(1, round(share * len(members))), most)
        drawn[part], left = left[:count], left[count:]
    return drawn


def _note(part: Part, share: float) -> str:
    return f"the data set brings no {part} split: {share:.0%} of train were taken for it"
