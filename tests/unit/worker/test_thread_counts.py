"""How many threads compute: what was fastest, tried no more often than it pays."""

from collections.abc import Callable

import pytest

from worker.runner.thread_counts import (
    LEAST_ROUNDS,
    MOST_ROUNDS,
    SHARE,
    SHARE_IF_CHANGED,
    ChoiceOfThreads,
    ThreadCounts,
    fastest,
)


class Machine:
    """A clock, and work that takes a time for each number of threads."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.tried: list[int] = []

    def attempt(self, threads: int) -> float:
        self.tried.append(threads)
        took = self.seconds(threads)
        self.now += took
        return took

    def counts(self, most: int, fixed: int | None = None) -> ThreadCounts:
        return ThreadCounts(most, fixed, lambda: self.now)


def _choice(counts: ThreadCounts, steps: str = "steps") -> ChoiceOfThreads:
    return counts.of(features="features", steps=steps)


@pytest.mark.parametrize(
    ("seconds", "best", "tried"),
    [
        ({1: 0.4, 2: 0.25, 4: 0.2, 6: 0.1}, 6, {6, 4, 2}),
        ({1: 0.1, 2: 0.19, 4: 0.5, 6: 2.0}, 1, {6, 4, 2, 1}),
        ({1: 0.3, 2: 0.2, 4: 0.25, 6: 0.35}, 2, {6, 4, 2, 1}),
        # Long steps: once each, and no smaller number than the first that is slower.
        ({1: 600.0, 2: 300.0, 4: 150.0, 6: 100.0}, 6, {6, 4}),
        ({1: 0.05, 2: 0.2, 4: 1.5, 6: 9.0}, 1, {6, 4, 2, 1}),
    ],
)
def test_the_number_that_is_fastest_is_taken(
    seconds: dict[int, float], best: int, tried: set[int]
) -> None:
    machine = Machine(seconds.__getitem__)
    assert _choice(machine.counts(6)).choose("steps", machine.attempt) == best
    assert set(machine.tried) == tried


def test_long_steps_are_tried_once() -> None:
    machine = Machine({1: 20.0, 2: 10.0}.__getitem__)
    assert fastest([1, 2], machine.attempt) == 2
    assert machine.tried == [2, 1]


def test_a_number_that_is_far_slower_is_tried_no_more() -> None:
    machine = Machine({1: 0.1, 2: 0.9}.__getitem__)
    fastest([1, 2], machine.attempt)
    assert machine.tried.count(2) == 2  # the first one allocates
    assert machine.tried.count(1) == 1 + LEAST_ROUNDS


def test_a_single_slow_step_decides_nothing() -> None:
    machine = Machine(lambda threads: 0.1 if threads == 2 else 0.15)
    slow = iter([0.1, 0.1, 0.19])
    assert fastest([1, 2], lambda n: next(slow, 0.1) if n == 2 else machine.attempt(n)) == 2


def test_short_steps_are_tried_more_often() -> None:
    machine = Machine({1: 0.0011, 2: 0.001}.__getitem__)
    fastest([1, 2], machine.attempt)
    assert machine.tried.count(2) == 1 + MOST_ROUNDS


def test_what_is_known_stays_unless_another_is_clearly_faster() -> None:
    machine = Machine({1: 0.105, 2: 0.1}.__getitem__)
    assert fastest([1, 2], machine.attempt) == 2
    assert fastest([1, 2], machine.attempt, known=1) == 1
    machine.seconds = {1: 0.12, 2: 0.1}.__getitem__
    assert fastest([1, 2], machine.attempt, known=1) == 2


def test_trainings_alike_are_tried_once_and_again_when_that_takes_little_of_the_time() -> None:
    machine = Machine({1: 0.1, 2: 0.15}.__getitem__)
    counts = machine.counts(2)
    assert _choice(counts).known("steps") is None
    assert _choice(counts).choose("steps", machine.attempt) == 1
    assert _choice(counts).known("steps") == 1
    assert _choice(counts, "other").known("steps") is None
    took = machine.now
    machine.now = took + 0.99 * took / SHARE
    assert _choice(counts).known("steps") == 1
    machine.now = took + 1.01 * took / SHARE
    assert _choice(counts).known("steps") is None


def test_what_was_found_for_features_stays_because_others_would_be_other_features() -> None:
    machine = Machine({1: 0.1, 2: 0.15}.__getitem__)
    counts = machine.counts(2)
    _choice(counts).choose("features", machine.attempt)
    machine.now += 1e6
    assert _choice(counts).known("features") == 1


@pytest.mark.parametrize(("most", "fixed", "expected"), [(8, 3, 3), (2, 5, 5), (1, None, 1)])
def test_a_number_that_a_person_has_set_is_not_tried(
    most: int, fixed: int | None, expected: int
) -> None:
    choice = _choice(Machine(lambda _: 0.1).counts(most, fixed))
    assert choice.known("steps") == choice.known("features") == choice.most == expected
    assert not choice.should_try_again(1.0)
    assert not choice.should_try_again(9.0)


def test_steps_are_tried_again_when_epochs_take_longer_or_shorter_than_before() -> None:
    machine = Machine({1: 0.1, 2: 0.15}.__getitem__)
    choice = _choice(machine.counts(2))
    choice.choose("steps", machine.attempt)
    machine.now += machine.now / SHARE_IF_CHANGED + 1
    epochs = (1.0, 1.1, 0.9, 1.4, 1.6, 1.7)
    assert [choice.should_try_again(s) for s in epochs] == [False] * 5 + [True]
    choice.choose("steps", machine.attempt)
    assert not choice.should_try_again(1.6)  # What is usual now.
    machine.now += 1e3
    assert [choice.should_try_again(s) for s in (1.0, 1.0)] == [False, True]


def test_one_epoch_that_other_work_of_a_moment_met_is_no_change() -> None:
    machine = Machine({1: 0.1, 2: 0.15}.__getitem__)
    choice = _choice(machine.counts(2))
    choice.choose("steps", machine.attempt)
    machine.now += 1e3
    epochs = (1.0, 5.0, 1.0, 5.0, 1.0)
    assert [choice.should_try_again(s) for s in epochs] == [False] * 5


def test_one_long_epoch_is_enough_as_the_next_may_take_an_hour() -> None:
    machine = Machine({1: 0.1, 2: 0.15}.__getitem__)
    choice = _choice(machine.counts(2))
    choice.choose("steps", machine.attempt)
    machine.now += 1e3
    assert [choice.should_try_again(s) for s in (10, 11, 9, 14, 16)] == [False] * 4 + [True]


def test_steps_are_not_tried_again_so_often_that_it_takes_much_of_the_time() -> None:
    machine = Machine({1: 0.1, 2: 0.15}.__getitem__)
    choice = _choice(machine.counts(2))
    choice.choose("steps", machine.attempt)
    took = machine.now
    machine.now = took + 0.99 * took / SHARE_IF_CHANGED
    assert [choice.should_try_again(s) for s in (1.0, 9.0, 9.0)] == [False] * 3
    machine.now = took + 1.01 * took / SHARE_IF_CHANGED
    assert choice.should_try_again(9.0)
