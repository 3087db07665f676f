"""Who is trained on, who compares trials, who stays sealed."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
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


@given(
    st.lists(st.integers(3, 30), min_size=2, max_size=5), shares, shares, st.integers(0, 2**63)
)
def test_every_picture_is_in_one_split_and_every_class_in_each(
    counts: list[int], validation: float, test: float, seed: int
) -> None:
    samples = _samples(counts)
    names = [str(label) for label in range(len(counts))]
    parts, _ = splits.assign(samples, names, validation=validation, test=test, seed=seed)
    assert Counter(s for part in parts.values() for s in part) == Counter(samples)
    for part in parts.values():
        assert {sample.label for sample in part} == set(range(len(counts)))
    for label, count in enumerate(counts):
        held_out = sum(sample.label == label for sample in parts["validation"])
        assert held_out == min(max(1, round(validation * count)), count - 2)


def test_a_split_depends_on_its_seed_alone() -> None:
    samples, names = _samples([20, 20]), ["a", "b"]
    first, again, other = (
        splits.assign(samples, names, validation=0.2, test=0.2, seed=seed)[0]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first["test"] != other["test"]


def test_splits_that_the_data_bring_are_kept() -> None:
    own = [
        *_samples([5, 5], "train"),
        *_samples([2, 2], "validation"),
        *_samples([3, 3], "test"),
    ]
    parts, notes = splits.assign(own, ["a", "b"], validation=0.5, test=0.4, seed=0)
    assert {part: len(samples) for part, samples in parts.items()} == {
        "train": 10,
        "validation": 4,
        "test": 6,
    }
    assert notes == ()


def test_a_missing_test_split_is_taken_from_train_and_said_so() -> None:
    own = [*_samples([10, 10], "train"), *_samples([2, 2], "validation")]
    parts, notes = splits.assign(own, ["a", "b"], validation=0.5, test=0.2, seed=0)
    assert [len(parts[part]) for part in splits.PARTS] == [16, 4, 4]
    assert all(sample.part == "train" for sample in parts["test"])
    assert len(notes) == 1
    assert "no test split: 20% of train" in notes[0]


def test_a_class_too_small_to_share_is_named() -> None:
    with pytest.raises(ClassTooSmall, match="'b' has 2 different pictures, and 3 are needed"):
        splits.assign(_samples([5, 2]), ["a", "b"], validation=0.2, test=0.2, seed=0)
