"""Who is trained on, who compares trials, who stays sealed."""

import tracemalloc
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from worker.data import splits
from worker.data.errors import ClassTooSmall
from worker.data.source import Part, Sample


def _samples(counts: list[int], part: Part | None = None) -> list[Sample]:
    return [
        Sample(Path(f"{part}/{label}/{number}"), label, part)
        for label, count in enumerate(counts)
        for number in range(count)
    ]


shares = st.floats(0.01, 0.49)
seeds = st.integers(0, 2**32)


def _draws(count: int, seed: int = 0) -> list[int]:
    """Different numbers, as the contents of different pictures give them."""
    drawn = np.random.default_rng(seed).integers(0, 2**63, 2 * count)
    return [int(one) for one in dict.fromkeys(drawn.tolist())][:count]


def _assign(
    draws: Mapping[Path, int], labels: Mapping[Path, int], validation: float, test: float
) -> dict[Path, Part]:
    """Return the split of each picture, given by its path."""
    samples = [Sample(path, labels[path]) for path in draws]
    names = [str(label) for label in range(max(labels.values()) + 1)]
    parts, _ = splits.assign(
        samples, names, validation=validation, test=test, draws=[*draws.values()]
    )
    return {sample.path: part for part, members in parts.items() for sample in members}


def _moved(before: Mapping[Path, Part], after: Mapping[Path, Part]) -> list[tuple[Part, Part]]:
    """Return what those pictures that are in both did, which are not where they were."""
    return [
        (part, after[path]) for path, part in before.items() if after.get(path, part) != part
    ]


@given(st.lists(st.integers(3, 30), min_size=2, max_size=5), shares, shares, seeds)
def test_every_picture_is_in_one_split_and_every_class_in_each(
    counts: list[int], validation: float, test: float, seed: int
) -> None:
    samples = _samples(counts)
    names = [str(label) for label in range(len(counts))]
    draws = _draws(len(samples), seed)
    parts, _ = splits.assign(samples, names, validation=validation, test=test, draws=draws)
    assert Counter(s for part in parts.values() for s in part) == Counter(samples)
    for part in parts.values():
        assert {sample.label for sample in part} == set(range(len(counts)))
    for label, count in enumerate(counts):
        held_out = sum(sample.label == label for sample in parts["validation"])
        assert held_out == min(max(1, round(validation * count)), count - 2)


def test_the_lowest_draws_are_sealed_the_next_compare_trials_and_the_rest_is_learned() -> None:
    samples, draws = _samples([10]), [50, 90, 10, 30, 20, 70, 60, 80, 40, 0]
    parts, _ = splits.assign(samples, ["a"], validation=0.3, test=0.2, draws=draws)
    drawn = {part: [draws[samples.index(one)] for one in parts[part]] for part in splits.PARTS}
    assert drawn == {
        "train": [50, 90, 70, 60, 80],
        "validation": [30, 20, 40],
        "test": [10, 0],
    }


@given(st.lists(st.integers(3, 60), min_size=1, max_size=4), shares, shares, seeds)
def test_one_picture_more_or_less_moves_three_of_its_class_at_most_and_none_between_train_and_test(
    counts: list[int], validation: float, test: float, seed: int
) -> None:
    labels = {one.path: int(str(one.label)) for one in _samples(counts)}
    paths, draws = list(labels), _draws(sum(counts) + 1, seed)
    old = _assign(dict(zip(paths, draws, strict=False)), labels, validation, test)
    label = seed % len(counts)
    labels[Path("new")] = label
    new = _assign(dict(zip(labels, draws, strict=True)), labels, validation, test)
    moved = _moved(old, new)
    assert len(moved) <= 3
    assert {"train", "test"} not in [set(move) for move in moved]
    same = [path for path in old if labels[path] != label]
    assert all(old[path] == new[path] for path in same)


@given(st.lists(st.integers(4, 40), min_size=2, max_size=4), shares, shares, seeds)
def test_a_picture_with_another_label_moves_six_at_most(
    counts: list[int], validation: float, test: float, seed: int
) -> None:
    labels = {one.path: int(str(one.label)) for one in _samples(counts)}
    draws = dict(zip(labels, _draws(sum(counts), seed), strict=True))
    changed = list(labels)[seed % len(labels)]
    relabelled = labels | {changed: (labels[changed] + 1) % len(counts)}
    old, new = (_assign(draws, each, validation, test) for each in (labels, relabelled))
    assert len(_moved({k: v for k, v in old.items() if k != changed}, new)) <= 6


def test_one_picture_more_moves_one_other_on_average() -> None:
    labels = {one.path: int(str(one.label)) for one in _samples([60, 60])}
    moved = 0
    for seed in range(100):
        draws = dict(zip([*labels, Path("new")], _draws(121, seed), strict=True))
        new = _assign(draws, labels | {Path("new"): 0}, 0.2, 0.2)
        old = _assign({path: draws[path] for path in labels}, labels, 0.2, 0.2)
        moved += len(_moved(old, new))
    assert 0.5 < moved / 100 < 1.5


@given(seeds)
def test_neither_order_nor_names_matter(seed: int) -> None:
    """Copies too, and copies under several labels."""
    random = np.random.default_rng(seed)
    draws = [int(one) for one in random.integers(0, 2**63, 12)]
    pictures = [(draws[n % 12], int(random.integers(2))) for n in range(40)]

    def found(order: Sequence[int]) -> Counter[tuple[Part, tuple[int, int]]]:
        samples = [Sample(Path(str(n)), pictures[row][1]) for n, row in enumerate(order)]
        drawn = [pictures[row][0] for row in order]
        parts, _ = splits.assign(samples, ["a", "b"], validation=0.2, test=0.2, draws=drawn)
        return Counter(
            (part, pictures[order[int(one.path.name)]]) for part in parts for one in parts[part]
        )

    try:
        assert found(range(40)) == found([int(row) for row in random.permutation(40)])
    except ClassTooSmall:
        assume(condition=False)


def test_splits_that_the_data_bring_are_kept() -> None:
    own = [
        *_samples([5, 5], "train"),
        *_samples([2, 2], "validation"),
        *_samples([3, 3], "test"),
    ]
    parts, notes = splits.assign(own, ["a", "b"], validation=0.5, test=0.4, draws=_draws(20))
    assert {part: len(samples) for part, samples in parts.items()} == {
        "train": 10,
        "validation": 4,
        "test": 6,
    }
    assert notes == ()


def test_a_missing_test_split_is_taken_from_train_and_said_so() -> None:
    own = [*_samples([10, 10], "train"), *_samples([2, 2], "validation")]
    parts, notes = splits.assign(own, ["a", "b"], validation=0.5, test=0.2, draws=_draws(24))
    assert [len(parts[part]) for part in splits.PARTS] == [16, 4, 4]
    assert all(sample.part == "train" for sample in parts["test"])
    assert len(notes) == 1
    assert "no test split: 20% of train" in notes[0]


def test_a_class_too_small_to_share_is_named() -> None:
    with pytest.raises(ClassTooSmall, match="'b' has 2 different pictures, and 3 are needed"):
        splits.assign(_samples([5, 2]), ["a", "b"], validation=0.2, test=0.2, draws=_draws(7))


def test_too_few_pictures_without_classes_are_told_of_the_whole() -> None:
    samples = [Sample(Path(str(n)), (float(n),)) for n in range(2)]
    with pytest.raises(ClassTooSmall, match="the data set has 2 different pictures, and 3 are"):
        splits.assign(samples, [], validation=0.2, test=0.2, draws=_draws(2))


def test_rows_are_divided_with_few_bytes_for_each() -> None:
    count = 200_000
    random = np.random.default_rng(0)
    draws = random.integers(0, 2**63, count).astype(np.uint64)
    draws[:100] = draws[100:200]  # Some have copies, under other labels too.
    labels = random.integers(0, 2, count).astype(np.int32)
    rows = splits.Rows(draws, labels, np.full(count, -1, np.int8))
    tracemalloc.start()
    try:
        splits.assign_rows(rows, ["a", "b"], validation=0.2, test=0.2, grouped=False)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 60 * count
