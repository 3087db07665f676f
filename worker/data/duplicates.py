"""Duplicates: pictures of the same content.

They are reported because a copy in another split was seen in training, and what is measured on it is too good.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab.contract.records import MOST_NAMED, Duplicates, Twins
from worker.data.source import Part, Sample

Twin = tuple[Sample, Sample]
_ROWS_AT_ONCE = 65_536


def report(
    samples: Sequence[Sample],
    contents: Sequence[int],
    splits: Mapping[Part, Sequence[Sample]],
) -> Duplicates:
    """Count the samples that share their content with another one, and name the first of them, the worst in front.

    Args:
        samples: All samples.
        contents: A number for each sample that exactly its copies share.
        splits: The samples of each split.
    """
    part_of: dict[Sample, Part] = {
        sample: part for part, members in splits.items() for sample in members
    }
    by_content: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample, content in zip(samples, contents, strict=True):
        by_content[content].append(sample)
    groups = [group for group in by_content.values() if len(group) > 1]
    across = [group for group in groups if len({part_of[one] for one in group}) > 1]
    conflicting = [group for group in groups if len({one.label for one in group}) > 1]
    twins = [
        Twins(
            paths=(str(one.path), str(other.path)),
            parts=(part_of[one], part_of[other]),
            same_label=one.label == other.label,
        )
        for group in groups
        for one, other in _pairs(group)
    ]
    twins.sort(key=lambda pair: (pair.parts[0] == pair.parts[1], pair.same_label))
    return Duplicates(
        copies=sum(len(group) - 1 for group in groups),
        across_splits=len(across),
        conflicting_labels=len(conflicting),
        first=tuple(twins[:MOST_NAMED]),
    )


def rows_of_copies(contents: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the places of all samples that share their content with another one, with little memory beside them.

    Args:
        contents: A number for each sample that exactly its copies share, uint64 `(N,)`.
    """
    ordered = np.sort(contents)
    several = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(several):
        return np.empty(0, np.int64)
    held = [
        begin + np.flatnonzero(np.isin(contents[begin : begin + _ROWS_AT_ONCE], several))
        for begin in range(0, len(contents), _ROWS_AT_ONCE)
    ]
    return np.concatenate(held)


def notes(found: Duplicates, noun: str = "picture") -> Iterator[str]:
    """Yield a sentence for the person about each kind of harmful duplicate; `noun` is the word for one sample."""
    if found.across_splits:
        (first, second), parts = found.first[0].paths, found.first[0].parts
        yield (
            f"{noun}s in more than one split: {found.across_splits}, such as {first} ({parts[0]}) "
            f"and {second} ({parts[1]}); what is measured on them was seen before"
        )
    if found.conflicting_labels:
        pair = next((pair for pair in found.first if not pair.same_label), None)
        such_as = "" if pair is None else f", such as {pair.paths[0]} and {pair.paths[1]}"
        yield f"{noun}s with more than one label: {found.conflicting_labels}{such_as}"


def _pairs(group: Sequence[Sample]) -> Iterator[Twin]:
    return ((group[0], other) for other in group[1:])
