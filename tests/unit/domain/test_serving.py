from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.serving import Claim, Work, distribute, is_alone, storable_at_once


def work(study_id: int, **changes: object) -> Work:
    facts: dict[str, object] = {
        "priority": 0,
        "running": 0,
        "created_at": datetime(2030, 1, study_id, tzinfo=UTC),
        "trials_created": 0,
        "trials_limit": 100,
        "has_queued": False,
        "may_propose": True,
    }
    return Work(study_id, f"study-{study_id}", **(facts | changes))  # pyright: ignore[reportArgumentType] - each name is known


def served(*studies: Work, claims: int) -> list[int | None]:
    return [chosen and chosen.study_id for chosen in distribute(studies, [Claim()] * claims)]


def served_beside(*studies: Work, beside: Sequence[int | None]) -> list[int | None]:
    names = [None if study_id is None else f"study-{study_id}" for study_id in beside]
    claims = [Claim(name, worker=UUID(int=place)) for place, name in enumerate(names, 1)]
    return [chosen and chosen.study_id for chosen in distribute(studies, claims)]


def test_the_highest_priority_is_served_while_it_has_work():
    low, high = work(1), work(2, priority=1, trials_created=98)
    assert served(low, high, claims=4) == [2, 2, 1, 1]


def test_of_equal_studies_the_one_with_fewest_running_trials_then_the_oldest():
    assert served(work(3), work(2), work(1, running=2), claims=6) == [2, 3, 2, 3, 1, 2]


def test_a_study_is_told_with_the_trials_that_the_claims_before_it_take():
    created = [
        chosen and chosen.trials_created for chosen in distribute([work(1)], [Claim()] * 3)
    ]
    assert created == [0, 1, 2]


def test_without_work_nobody_is_served():
    spent = work(1, trials_created=100)
    paused = work(2, may_propose=False)
    assert served(spent, paused, claims=2) == [None, None]
    assert served(work(3, may_propose=False, has_queued=True), claims=1) == [3]
    assert served(claims=1) == [None]


def test_a_claim_beside_a_study_is_served_by_it_at_its_turn_and_by_no_other():
    one, two = work(1), work(2)
    assert served_beside(one, two, beside=[2, 1, 1, 2, 2, 1]) == [None, 1, None, 2, None, 1]
    assert served_beside(one, work(2, priority=1), beside=[1, 2, 2]) == [None, 2, 2]
    assert served_beside(one, beside=[3, 1]) == [None, 1]


def test_trials_that_its_own_worker_runs_do_not_delay_a_claim_beside_them():
    one, two = work(1, running=3), work(2, running=1)

    def served_by(claim: Claim) -> list[int | None]:
        return [chosen and chosen.study_id for chosen in distribute([one, two], [claim])]

    assert served_by(Claim("study-1", holding=3)) == [1]
    assert served_by(Claim("study-1", holding=2)) == [1]
    assert served_by(Claim("study-1", holding=1)) == [None]
    assert served_by(Claim("study-2", holding=1)) == [2]
    assert served_by(Claim(holding=3)) == [2]


def test_claims_of_one_worker_at_once_are_each_ranked_by_what_the_others_have():
    older, mine, younger = work(1), work(2, running=1), work(3)

    def served_to_me(*studies: Work) -> list[int | None]:
        claims = [Claim("study-2", holding=1, worker=UUID(int=7))] * 4
        return [chosen and chosen.study_id for chosen in distribute(studies, claims)]

    assert served_to_me(older, mine) == [None] * 4
    assert served_to_me(mine, younger) == [2] * 4


WORKS = st.builds(
    work,
    st.integers(1, 4),
    priority=st.integers(0, 1),
    running=st.integers(0, 3),
    trials_created=st.integers(97, 100),
    has_queued=st.booleans(),
    may_propose=st.booleans(),
)


@given(
    studies=st.lists(WORKS, max_size=4, unique_by=lambda study: study.study_id),
    beside=st.lists(st.none() | st.integers(1, 5), max_size=8),
)
def test_claims_beside_studies_bend_no_turn(studies: list[Work], beside: list[int | None]):
    got = list(zip(beside, served_beside(*studies, beside=beside), strict=True))
    # Those that got nothing might as well not have asked; the others got what any claim would have.
    counted = [study for wanted, study in got if wanted is None or study is not None]
    assert counted == served(*studies, claims=len(counted))
    assert all(study in (None, wanted) for wanted, study in got if wanted is not None)


@pytest.mark.parametrize(
    ("running", "holding", "alone"), [(0, 0, True), (2, 2, True), (1, 0, False), (3, 2, False)]
)
def test_a_worker_is_alone_where_it_may_hold_all_that_runs(
    running: int, holding: int, alone: bool
) -> None:
    assert is_alone(running, holding) == alone


@pytest.mark.parametrize(
    ("numbers", "places"),
    [
        ([None, None], [[0, 1]]),
        ([4, 5, 6], [[0, 1, 2]]),
        ([4, None, 5], [[0, 2], [1]]),
        ([4, 6, 5, 4], [[0, 2]]),
        ([4, 4], [[0]]),
        ([], []),
    ],
)
def test_new_trials_are_stored_together_where_their_numbers_follow_one_another(
    numbers: list[int | None], places: list[list[int]]
) -> None:
    assert storable_at_once(numbers) == places


def test_a_probe_is_given_to_one_claim_and_the_others_serve_on() -> None:
    probed, other = work(1, priority=9, is_probed_next=True), work(2)
    assert served(probed, other, claims=3) == [1, 2, 2]
    assert served(work(1, is_probed_next=True, has_queued=True), claims=2) == [1, None]


def test_a_study_for_which_a_worker_is_set_aside_serves_the_others() -> None:
    studies = [work(1, priority=9), work(2)]
    aside = Claim(set_aside=(1,))
    assert [one and one.study_id for one in distribute(studies, [aside, Claim()])] == [2, 1]
    assert distribute(studies, [Claim(beside="study-1", set_aside=(1,))]) == [None]


def test_a_study_that_needs_a_larger_device_serves_the_others() -> None:
    studies = [work(1, priority=9, gpu_memory_gb=24.0), work(2, gpu_memory_gb=16.0), work(3)]
    claims = [Claim(), Claim(gpu_memory_gb=16.8), Claim(gpu_memory_gb=25.5)]
    assert [one and one.study_id for one in distribute(studies, claims)] == [3, 2, 1]
    assert distribute(studies[:1], [Claim(beside="study-1", gpu_memory_gb=16.8)]) == [None]


def test_a_worker_gets_no_study_that_needs_more_devices_than_it_offers() -> None:
    studies = [work(1, priority=9, devices_per_trial=4), work(2, devices_per_trial=2), work(3)]
    served = distribute(studies, [Claim(), Claim(devices=2), Claim(devices=4)])
    assert [one and one.study_id for one in served] == [3, 2, 1]


@pytest.mark.parametrize(
    ("workers", "share"), [(1, 1.0), (2, 0.5), (3, 2 / 3), (4, 0.5), (8, 0.5)]
)
def test_of_equal_studies_each_has_half_of_the_workers_time_and_the_older_what_is_left_over(
    workers: int, share: float
) -> None:
    # The trials of the younger one take five times as long.
    lasts = {1: 1, 2: 5}
    ends: list[tuple[int, int]] = []
    spent = Counter[int]()
    for now in range(600):
        ends = [one for one in ends if one[0] > now]
        running = Counter(number for _, number in ends)
        standing = [work(one, running=running[one], trials_limit=10**6) for one in lasts]
        for number in served(*standing, claims=workers - len(ends)):
            assert number is not None
            ends.append((now + lasts[number], number))
        spent.update(number for _, number in ends)
    assert spent[1] / spent.total() == pytest.approx(share, abs=0.02)
