"""When a sweep may revoke leases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.tidying import (
    Ended,
    Running,
    amnesty_below_ttl_s,
    fails_everything,
    holds_back,
    pause_s,
)


def running(count: int, expired: int, ttl_s: float = 60.0) -> Running:
    return Running(count, expired, ttl_s if count else None, ttl_s if expired else None)


def test_a_silence_of_half_a_lease_is_an_outage() -> None:
    assert amnesty_below_ttl_s(30.1) > 60.0
    assert amnesty_below_ttl_s(29.9) < 60.0


@given(every_s=st.floats(0.1, 60), ttl_s=st.floats(4, 3600))
def test_the_pause_between_two_sweeps_is_no_outage(every_s: float, ttl_s: float) -> None:
    assert amnesty_below_ttl_s(pause_s(running(1, 0, ttl_s), every_s)) <= ttl_s


def test_a_short_moment_is_no_outage_however_short_the_lease() -> None:
    assert amnesty_below_ttl_s(0.9) == 0.0


@pytest.mark.parametrize(
    ("count", "expired", "held"),
    [
        (3, 3, False),
        (4, 2, False),
        (4, 3, True),
        (100, 50, False),
        (100, 51, True),
        (0, 0, False),
    ],
)
def test_most_of_many_leases_are_not_revoked_at_once(
    count: int, expired: int, held: bool
) -> None:
    assert holds_back(running(count, expired), None) is held


def test_a_mass_expiry_is_held_back_for_one_more_lease_and_no_longer() -> None:
    assert holds_back(running(4, 4), 59.9)
    assert not holds_back(running(4, 4), 60.0)


def test_where_nothing_runs_the_next_sweep_has_time() -> None:
    assert pause_s(running(0, 0), 5.0) == 5.0
    assert pause_s(running(2, 0, ttl_s=2.0), 5.0) == 0.5


CRASHES = [Ended(1, True), Ended(2, True), Ended(3, True)]


def test_a_worker_whose_last_three_trials_crashed_fails_everything_if_others_succeed() -> None:
    assert fails_everything(CRASHES, others_succeed=True)
    assert not fails_everything(CRASHES, others_succeed=False)


def test_one_trial_that_crashes_everywhere_is_not_the_workers_fault() -> None:
    assert not fails_everything([Ended(1, True)] * 3, others_succeed=True)


def test_a_success_among_the_last_three_clears_a_worker() -> None:
    for position in range(3):
        newest = [*CRASHES]
        newest[position] = Ended(9, False)
        assert not fails_everything(newest, others_succeed=True)


def test_two_crashes_are_too_few() -> None:
    assert not fails_everything(CRASHES[:2], others_succeed=True)
