from datetime import UTC, datetime

from service.domain.serving import Work, distribute


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
    return Work(study_id, **(facts | changes))  # pyright: ignore[reportArgumentType] - each name is known


def served(*studies: Work, claims: int) -> list[int | None]:
    return [chosen and chosen.study_id for chosen in distribute(studies, claims)]


def test_the_highest_priority_is_served_while_it_has_work():
    low, high = work(1), work(2, priority=1, trials_created=98)
    assert served(low, high, claims=4) == [2, 2, 1, 1]


def test_of_equal_studies_the_one_with_fewest_running_trials_then_the_oldest():
    assert served(work(3), work(2), work(1, running=2), claims=6) == [2, 3, 2, 3, 1, 2]


def test_a_study_is_told_with_the_trials_that_the_claims_before_it_take():
    created = [chosen and chosen.trials_created for chosen in distribute([work(1)], 3)]
    assert created == [0, 1, 2]


def test_without_work_nobody_is_served():
    spent = work(1, trials_created=100)
    paused = work(2, may_propose=False)
    assert served(spent, paused, claims=2) == [None, None]
    assert served(work(3, may_propose=False, has_queued=True), claims=1) == [3]
    assert served(claims=1) == [None]
