"""While the database is away, one caller at a time tries it."""

import pytest

from service.storage.gate import SHUT_FOR_S, TRY_LASTS_S, Gate
from trimtab.contract.problems import Unavailable


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    return Gate(clock)


def is_let_in(gate: Gate) -> bool:
    try:
        gate.enter()
    except Unavailable:
        return False
    return True


def test_everyone_passes_while_the_database_answers(gate: Gate) -> None:
    gate.open()
    assert all(is_let_in(gate) for _ in range(3))


def test_when_it_is_away_everyone_is_told_at_once(gate: Gate) -> None:
    gate.shut()
    assert not any(is_let_in(gate) for _ in range(3))


def test_after_a_moment_one_caller_tries_and_the_others_are_still_told(
    gate: Gate, clock: Clock
) -> None:
    gate.shut()
    clock.at += SHUT_FOR_S
    assert [is_let_in(gate) for _ in range(3)] == [True, False, False]


def test_a_try_that_gets_through_opens_it_for_all(gate: Gate, clock: Clock) -> None:
    gate.shut()
    clock.at += SHUT_FOR_S
    gate.enter()
    gate.open()
    assert all(is_let_in(gate) for _ in range(3))


def test_a_try_that_never_tells_is_followed_by_another(gate: Gate, clock: Clock) -> None:
    gate.shut()
    clock.at += SHUT_FOR_S
    gate.enter()
    clock.at += TRY_LASTS_S
    assert [is_let_in(gate) for _ in range(2)] == [True, False]
