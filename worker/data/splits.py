"""The splits: train is learned from, validation compares trials, and test stays sealed until the final evaluation.

Who goes where, the content of each sample decides for itself. A seed of the whole data set would deal all samples anew
as soon as one is added, and a study that then goes on would be measured on what it has learned.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

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
    parts: list[Part] = [sample.part or "train" for sample in samples]
    shares: dict[Part, float] = {"validation": validation, "test": test}
    wanted: dict[Part, float] = {
        part: share for part, share in shares.items() if part not in parts
    }
    divisible = [row for row, part in enumerate(parts) if part == "train"]
    dealt: dict[int, Part] = {}
    labels = [one.label if isinstance(one.label, int) and classes else 0 for one in samples]
    strata = _strata((draws[row], labels[row]) for row in divisible)
    for stratum in strata.values():
        dealt |= _deal(sorted(stratum), wanted)
    held: defaultdict[int, set[Part]] = defaultdict(set)
    for row in divisible:
        parts[row] = dealt[draws[row]]
        held[labels[row]].add(parts[row])
    for label, name in enumerate(classes or (None,)):
        if held[label] != {"train", *wanted}:
            grouped = any(sample.group is not None for sample in samples)
            count = len(strata.get(label, ()))
            raise ClassTooSmall(name, count, len(wanted) + 1, grouped=grouped)
    splits: Splits = {
        wanted_part: tuple(
            sample for sample, part in zip(samples, parts, strict=True) if part == wanted_part
        )
        for wanted_part in PARTS
    }
    brings_splits = any(sample.part for sample in samples)
    return splits, tuple(_note(*taken) for taken in wanted.items() if brings_splits)


def _strata(labelled: Iterable[tuple[int, int]]) -> Mapping[int, Sequence[int]]:
    """Return the different draws of each label; those under several labels count for the one that most have."""
    counted: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for draw, label in labelled:
        counted[draw][label] += 1
    strata: defaultdict[int, list[int]] = defaultdict(list)
    for draw, counts in counted.items():
        # Not the label that comes first: the order of the samples changes when a file is renamed.
        strata[min(counts, key=lambda label: (-counts[label], label))].append(draw)
    return strata


def _deal(draws: Sequence[int], shares: Mapping[Part, float]) -> dict[int, Part]:
    """Deal the draws of a class, given in their order, to the splits; if they are too few, all stay in train."""
    dealt: dict[int, Part] = dict.fromkeys(draws, "train")
    if len(draws) <= len(shares):
        return dealt
    counts = _counts(len(draws), shares)
    begin = 0
    for part in _IN_TURN:
        end = begin + counts.get(part, 0)
        dealt.update((draw, part) for draw in draws[begin:end])
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
