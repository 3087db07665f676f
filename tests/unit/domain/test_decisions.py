"""Which reports are decided on all trials of their study."""

import pytest

from service.domain.decisions import is_due


@pytest.mark.parametrize(
    ("last_step", "last_value", "runs_until", "schedules", "due"),
    [
        (1, 0.5, 3, True, False),
        (2, 0.5, 3, True, True),
        (5, 0.5, 3, True, True),
        (5, 0.5, None, True, False),
        (0, None, 3, True, True),
        (0, None, None, True, True),
        (5, 0.5, 3, False, False),
        (0, None, 3, False, False),
    ],
)
def test_a_report_is_due_that_reaches_what_its_trial_was_given_or_is_not_finite(
    last_step: int, last_value: float | None, runs_until: int | None, schedules: bool, due: bool
) -> None:
    assert is_due(last_step, last_value, runs_until, schedules=schedules) == due


@pytest.mark.parametrize(
    ("runs_until", "schedules", "due"),
    [(None, True, True), (9, True, False), (None, False, False)],
)
def test_a_trial_that_runs_to_its_end_is_decided_on_where_its_search_looks_at_it(
    runs_until: int | None, schedules: bool, due: bool
) -> None:
    assert is_due(5, 0.5, runs_until, schedules=schedules, decides_here=True) == due
