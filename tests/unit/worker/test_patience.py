from dataclasses import dataclass

import pytest

from worker.agent.stall_detector import BusyTime, StallDetector, Timeouts


@dataclass
class Clock:
    """Time that passes when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def patience(clock: Clock) -> StallDetector:
    patience = StallDetector(Timeouts(stall_s=300, grace_s=20), clock)
    patience.begin()
    return patience


def test_a_silent_runner_is_given_up_after_the_stall_time(
    patience: StallDetector, clock: Clock
) -> None:
    clock.now += 299
    assert patience.verdict() is None
    assert patience.is_moving()
    clock.now += 1
    assert not patience.is_moving()
    failure = patience.verdict()
    assert failure is not None
    assert (failure.error, failure.retryable) == ("stalled", True)


def test_a_sign_of_life_begins_the_wait_anew(patience: StallDetector, clock: Clock) -> None:
    clock.now += 299
    patience.moved()
    assert patience.seconds_left() == 300


def test_a_slow_epoch_earns_ten_times_its_own_length(
    patience: StallDetector, clock: Clock
) -> None:
    clock.now += 100
    patience.epoch_done()
    patience.begin()
    assert patience.seconds_left() == 1000
    clock.now += 5
    patience.epoch_done()
    patience.begin()
    assert patience.seconds_left() == 1000


def test_signs_of_life_within_an_epoch_do_not_shorten_it(
    patience: StallDetector, clock: Clock
) -> None:
    for _ in range(10):
        clock.now += 40
        patience.moved()
    patience.epoch_done()
    patience.begin()
    assert patience.seconds_left() == 4000


def test_leaving_waits_for_half_of_the_grace_and_no_longer(
    patience: StallDetector, clock: Clock
) -> None:
    patience.leave_soon()
    assert patience.seconds_left() == 10
    clock.now += 5
    patience.leave_soon()
    patience.moved()
    assert patience.seconds_left() == 5
    clock.now += 5
    assert patience.verdict() is not None


def test_a_kill_is_given_time_before_the_next(patience: StallDetector, clock: Clock) -> None:
    clock.now += 300
    assert patience.verdict() is not None
    assert patience.verdict() is None


def test_what_the_agent_itself_slept_is_not_held_against_the_runner(
    patience: StallDetector, clock: Clock
) -> None:
    clock.now += 3600
    patience.overslept(3590)
    assert patience.verdict() is None
    assert patience.seconds_left() == 290


def test_an_ordinary_delay_is_no_sleep(patience: StallDetector, clock: Clock) -> None:
    clock.now += 300
    patience.overslept(0.2)
    assert patience.verdict() is not None


def test_an_attempt_that_needs_no_runner_any_more_moves(
    patience: StallDetector, clock: Clock
) -> None:
    patience.end()
    clock.now += 3600
    assert patience.is_moving()


def test_while_another_trial_keeps_the_runner_waiting_none_of_it_is_held_against_it(
    clock: Clock,
) -> None:
    busy_time = BusyTime(clock)
    patience = StallDetector(Timeouts(stall_s=300), clock, busy_time.seconds)
    patience.begin()
    clock.now += 100
    with busy_time.meanwhile():
        clock.now += 3600
        assert patience.is_moving()
        assert patience.seconds_left() == 200
    clock.now += 199
    assert patience.verdict() is None
    clock.now += 1
    assert patience.verdict() is not None


def test_what_kept_the_runner_waiting_before_a_sign_of_life_is_over(clock: Clock) -> None:
    busy_time = BusyTime(clock)
    patience = StallDetector(Timeouts(stall_s=300), clock, busy_time.seconds)
    with busy_time.meanwhile():
        clock.now += 3600
    patience.begin()
    assert patience.seconds_left() == 300


def test_what_several_keep_it_waiting_for_at_once_counts_once(clock: Clock) -> None:
    busy_time = BusyTime(clock)
    with busy_time.meanwhile():
        clock.now += 1
        with busy_time.meanwhile():
            clock.now += 2
        clock.now += 4
    clock.now += 8
    assert busy_time.seconds() == 7
