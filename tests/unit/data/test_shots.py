"""Few labels: so many of each class, always the same ones, the fewer among the more."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pictures import folder_task, write_classes
from worker import data
from worker.data import Seal, shots

labels = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
seeds = st.integers(0, 2**32)


def _draws(count: int, seed: int = 0, *, below: int = 2**63) -> np.ndarray:
    """Pictures of no group: the content is its own group."""
    drawn = np.random.default_rng(seed).integers(0, below, count, dtype=np.uint64)
    return np.stack([drawn, drawn], axis=1)


@given(labels, st.integers(1, 20), st.integers(1, 20), seeds)
def test_each_class_keeps_so_many_and_fewer_shots_are_among_more(
    labels: np.ndarray, one: int, other: int, seed: int
) -> None:
    draws = _draws(len(labels), seed, below=40)
    few, many = (shots.choose(labels, n, draws=draws) for n in sorted((one, other)))
    assert set(few) <= set(many)
    assert list(few) == sorted(set(few))
    for label in np.unique(labels):
        kept = (labels[few] == label).sum()
        assert kept == min(min(one, other), (labels == label).sum())


def test_the_highest_draws_are_chosen_and_copies_wait_for_a_second_turn() -> None:
    drawn = np.array([5, 2**63 + 9, 5, 7, 2**63 + 9, 1], dtype=np.uint64)
    draws = np.stack([drawn, drawn], axis=1)
    chosen = [
        set(shots.choose(np.zeros(6, dtype=np.int64), n, draws=draws)) for n in range(1, 7)
    ]
    assert chosen[:4] == [{1}, {1, 3}, {0, 1, 3}, {0, 1, 3, 5}]
    assert chosen[4:] == [{0, 1, 3, 4, 5}, set(range(6))]


def test_each_group_has_a_turn_before_one_has_two_and_copies_come_last() -> None:
    rows = [(7, 10), (7, 30), (9, 20), (7, 30), (8, 5), (9, 40)]
    draws, every = np.array(rows, dtype=np.uint64), np.zeros(6, dtype=np.int64)
    chosen = [set(shots.choose(every, n, draws=draws).tolist()) for n in range(1, 7)]
    added = [new - old for old, new in itertools.pairwise([set[int](), *chosen])]
    assert added == [{5}, {4}, {1}, {2}, {0}, {3}]


@given(st.integers(2, 40), st.integers(1, 10), seeds)
def test_one_picture_more_exchanges_one_at_most(count: int, number: int, seed: int) -> None:
    draws = _draws(count, seed, below=60)
    every = np.zeros(count, dtype=np.int64)
    new = set(shots.choose(every, number, draws=draws).tolist())
    old = set(shots.choose(every[1:], number, draws=draws[1:]) + 1)
    assert len(old - new) <= 1


def test_where_labels_are_no_classes_so_many_are_chosen_in_all() -> None:
    targets = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float64)
    few, many = (shots.choose(targets, n, draws=_draws(50)) for n in (4, 9))
    assert (len(few), len(many)) == (4, 9)
    assert set(few) <= set(many)


def test_a_task_with_few_labels_trains_on_these_and_is_measured_by_all(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 20, "dog": 20, "owl": 4})
    task, cache_dir = folder_task(tmp_path / "pets"), tmp_path / "cache"
    whole = data.load(task, cache_dir=cache_dir)
    few = data.load(task, cache_dir=cache_dir, few=3)
    assert np.bincount(few.train.labels).tolist() == [3, 3, 2]
    assert few.train.rows is not None
    assert np.array_equal(few.train.labels, whole.train.labels[few.train.rows])
    assert np.array_equal(few.validation.labels, whole.validation.labels)
    assert len(data.open_test(task, Seal("final"), cache_dir=cache_dir)) == 9
    assert few.counts == whole.counts
    again = data.load(task, cache_dir=cache_dir, few=3)
    assert again.train.rows is not None
    assert np.array_equal(few.train.rows, again.train.rows)


@pytest.mark.parametrize("kind", ["trial", "", "Final"])
def test_a_seal_is_of_a_final_lease_alone(kind: str) -> None:
    with pytest.raises(data.TestSplitSealed, match="only a final one may open it"):
        Seal(kind)
