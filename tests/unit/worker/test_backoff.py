import random

from hypothesis import given
from hypothesis import strategies as st

from worker.agent.backoff import FIRST_S, LAST_S, Backoff


@given(seed=st.integers(), tries=st.integers(1, 40))
def test_waits_grow_from_half_a_second_to_half_a_minute_and_no_further(
    seed: int, tries: int
) -> None:
    backoff = Backoff(random.Random(seed))
    waits = [backoff.next() for _ in range(tries)]
    for number, wait in enumerate(waits):
        ceiling = min(FIRST_S * 2**number, LAST_S)
        assert ceiling / 2 <= wait <= ceiling


@given(seed=st.integers())
def test_waits_begin_again_once_all_is_well(seed: int) -> None:
    backoff = Backoff(random.Random(seed))
    for _ in range(10):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= FIRST_S


def test_two_workers_do_not_return_at_the_same_moment() -> None:
    one, other = Backoff(random.Random(1)), Backoff(random.Random(2))
    assert [one.next() for _ in range(3)] != [other.next() for _ in range(3)]
