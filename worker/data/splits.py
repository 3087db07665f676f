"""Which picture is trained on, which compares trials, and which stays sealed until the end."""

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
    """Share the samples out: a split that the data set brings is kept, the others are taken from train.

    Each class is shared out on its own (stratified) by `seed` alone, with at least one picture for each split; where
    the label is no class, all pictures are shared out together. Copies go where the first of their content goes, so
    that no split that is made here holds what another one has.

    Args:
        samples: In an order that depends on the data alone; pictures of no split count as train.
        classes: The names, for messages; empty where the labels are no classes.
        validation: Share of train to take for validation, if the data set brings none.
        test: The same for the sealed split.
        seed: From the data's hash, never from a trial.
        contents: For each sample a number that only pictures of the same content share; None: all differ.

    Returns:
        The three splits, each in the order of `samples`, and what to tell the person about them.

    Raises:
        ClassTooSmall: A class cannot give each split a picture.
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
    """For each row of train, the first row of train that has its content."""
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
        # Each split that comes after this one, and train, must still get a picture.
        most = len(left) - (len(shares) - position)
        count = min(max(1, round(share * len(members))), most)
        drawn[part], left = left[:count], left[count:]
    return drawn


def _note(part: Part, share: float) -> str:
    return f"the data set brings no {part} split: {share:.0%} of train were taken for it"
