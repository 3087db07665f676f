"""Which configurations a person may have tried, and when."""

from typing import Any

import pytest

from service.domain.editing import Spent
from service.domain.enqueuing import nothing_left, time_over
from tests.support.documents import a_study_document


@pytest.mark.parametrize(
    ("created", "active_s", "says"),
    [
        (2, 0.0, None),
        (3, 0.0, "All 3 trials of the search"),  # the fourth pays the refit
        (0, 74.9, None),
        (0, 75.0, "--wall-time-s S"),
    ],
)
def test_a_trial_is_added_while_the_search_has_trials_and_time_left(
    created: int, active_s: float, says: str | None
) -> None:
    document = a_study_document(
        budget={"trials": 4, "wall_time_s": 100}, finish={"refit": True}
    )
    told = nothing_left(document, Spent("active", created, active_s, exhausted=False))
    assert (told is None) == (says is None)
    assert says is None or (told is not None and says in told)


def test_a_study_without_a_wall_time_has_time() -> None:
    budget: dict[str, Any] = {"trials": 4}
    spent = Spent("active", 4, 1e9, exhausted=False)
    assert time_over(a_study_document(budget=budget), spent) is None


def test_a_limit_that_is_reached_leaves_nothing_and_is_named_as_its_option() -> None:
    spent = Spent("active", 0, 0.0, exhausted=False, reached="device_seconds")
    told = nothing_left(a_study_document(), spent)
    assert told is not None
    assert "trimtab study edit digits --device-seconds" in told
