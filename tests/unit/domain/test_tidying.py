"""When a sweep may revoke leases."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.tidying import (
    Ended,
    Running,
    amnesty_below_ttl_s,
    crashes_in_a_row,
    fails_everything,
    holds_back,
    pause_s,
)


def running(workers: int, silent: int, ttl_s: float = 60.0) -> Running:
    longest = ttl_s if silent else None
    return Running(workers, silent, silent, ttl_s if workers else None, longest)


def test_a_silence_of_half_a_lease_is_an_outage() -> None:
    assert amnesty_below_ttl_s(30.1) > 60.0
    assert amnesty_below_ttl_s(29.9) < 60.0


@given(every_s=st.floats(0.1, 60), ttl_s=st.floats(4, 3600))
def test_the_pause_between_two_sweeps_is_no_outage(every_s: float, ttl_s: float) -> None:
    assert amnesty_below_ttl_s(pause_s(running(1, 0, ttl_s), every_s)) <= ttl_s


def test_a_short_moment_is_no_outage_however_short_the_lease() -> None:
    assert amnesty_below_ttl_s(0.9) == 0.0


@pytest.mark.parametrize(
    ("workers", "silent", "held"),
    [
        (3, 3, False),
        (4, 2, False),
        (4, 3, True),
        (100, 50, False),
        (100, 51, True),
        (0, 0, False),
    ],
)
def test_the_leases_of_most_of_many_workers_are_not_revoked_at_once(
    workers: int, silent: int, held: bool
) -> None:
    assert holds_back(running(workers, silent), None) is held


def test_a_mass_expiry_is_held_back_for_one_more_lease_and_no_longer() -> None:
    assert holds_back(running(4, 4), 59.9)
    assert not holds_back(running(4, 4), 60.0)


def test_where_nothing_runs_the_next_sweep_has_time() -> None:
    assert pause_s(running(0, 0), 5.0) == 5.0
    assert pause_s(running(2, 0, ttl_s=2.0), 5.0) == 0.5


def at(second: float) -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=second)


def ended(trial: int, began: float, end: float, *, crashed: bool = True) -> Ended:
    return Ended(uuid4(), trial, crashed, at(began), at(end))


CRASHES = [ended(3, 20, 30), ended(2, 10, 20), ended(1, 0, 10)]


def fails(newest: Sequence[Ended], others_succeeded: float | None = 30) -> bool:
    succeeded_at = None if others_succeeded is None else at(others_succeeded)
    return fails_everything(crashes_in_a_row(newest), others_succeeded_at=succeeded_at)


def test_a_worker_whose_last_three_trials_crashed_fails_everything_if_others_succeed() -> None:
    assert fails(CRASHES)
    assert fails(CRASHES, 0)
    assert not fails(CRASHES, None)
    assert not fails(CRASHES, -1)


def test_one_trial_that_crashes_everywhere_is_not_the_workers_fault() -> None:
    assert not fails([ended(1, 10 * n, 10 * n + 10) for n in (2, 1, 0)])


def test_a_success_among_the_last_three_clears_a_worker() -> None:
    for position in range(3):
        newest = [*CRASHES]
        newest[position] = replace(newest[position], crashed=False)
        assert not fails(newest)


def test_two_crashes_are_too_few() -> None:
    assert not fails(CRASHES[:2])


def test_trials_that_fell_with_one_training_process_are_one_crash() -> None:
    together = [ended(trial, trial / 10, 10 + trial / 10) for trial in (8, 7, 6, 5, 4)]
    assert not fails(together)
    assert not fails([ended(9, 20, 30), *together])
    assert fails([ended(10, 30, 40), ended(9, 20, 30), *together], 40)


def test_a_crash_in_a_row_is_of_an_attempt_after_which_none_has_ended_well() -> None:
    newest = [*CRASHES[:2], ended(9, 5, 8, crashed=False), CRASHES[2]]
    assert crashes_in_a_row(newest) == CRASHES[:2]
