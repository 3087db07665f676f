"""When a study proposes, when it is over, and what comes then."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, builds, integers, sampled_from

from service.domain import budget
from service.domain.budget import Spending
from service.domain.lifecycle import STUDY_STEPS
from trimtab.contract.studies import StudyState

STATES: tuple[StudyState, ...] = get_args(StudyState)
spendings = builds(
    Spending,
    state=sampled_from(STATES),
    trials_limit=integers(1, 4),
    trials_created=integers(0, 4),
    exhausted=booleans(),
    wall_time_over=booleans(),
    unfinished=booleans(),
    completed=booleans(),
    final_failed=booleans(),
    refits_unfinished=booleans(),
    final_queued=booleans(),
    paused_by_search=booleans(),
)
FRESH = Spending(
    state="active",
    trials_limit=2,
    trials_created=1,
    exhausted=False,
    wall_time_over=False,
    unfinished=False,
    completed=True,
    final_failed=False,
    refits_unfinished=False,
    final_queued=False,
)


def test_an_active_study_with_budget_proposes() -> None:
    assert budget.may_propose(FRESH)


@pytest.mark.parametrize(
    "spent",
    [
        replace(FRESH, trials_created=2),
        replace(FRESH, trials_created=3),
        replace(FRESH, exhausted=True),
        replace(FRESH, wall_time_over=True),
        *(replace(FRESH, state=state) for state in STATES if state != "active"),
    ],
)
def test_whatever_is_spent_ends_the_proposals(spent: Spending) -> None:
    assert not budget.may_propose(spent)


@given(spendings)
def test_what_follows_is_a_legal_step_or_none(spending: Spending) -> None:
    state = budget.next_state(spending)
    assert state == spending.state or state in STUDY_STEPS[spending.state]


@given(spendings)
def test_a_study_never_ends_while_a_trial_of_it_is_open_or_may_come(spending: Spending) -> None:
    if spending.state in ("active", "stopping") and (
        spending.unfinished or budget.may_propose(spending)
    ):
        assert budget.next_state(spending) == spending.state


@given(spendings)
def test_a_spent_study_is_evaluated_exactly_if_a_trial_completed(spending: Spending) -> None:
    spent = replace(spending, trials_created=spending.trials_limit, unfinished=False)
    for state in ("active", "stopping"):
        ended = budget.next_state(replace(spent, state=state))
        assert ended == ("finalising" if spending.completed else "done")


@given(spendings)
def test_a_failed_final_evaluation_ends_the_study(spending: Spending) -> None:
    finalising = replace(spending, state="finalising")
    expected = "done" if spending.final_failed else "finalising"
    assert budget.next_state(finalising) == expected


@given(spendings)
def test_the_final_evaluation_is_due_once_when_the_last_refit_is_over(
    spending: Spending,
) -> None:
    waits = spending.refits_unfinished or spending.final_queued
    due = budget.final_is_due(replace(spending, state="finalising"))
    assert due == (not waits)


@given(spendings, sampled_from([state for state in STATES if state != "finalising"]))
def test_the_final_evaluation_is_due_in_no_other_state(
    spending: Spending, state: StudyState
) -> None:
    assert not budget.final_is_due(replace(spending, state=state))


@given(spendings, sampled_from(["paused", "done", "cancelled", "deleting"]))
def test_nothing_follows_in_a_study_that_rests_or_is_over(
    spending: Spending, state: StudyState
) -> None:
    assert budget.next_state(replace(spending, state=state)) == state


@given(spendings)
def test_begun_trials_are_cancelled_after_the_wall_time_and_with_their_study(
    spending: Spending,
) -> None:
    searching = spending.state in ("active", "stopping")
    assert budget.begun_trials_are_unwanted(spending) == (
        spending.state == "cancelled" or (searching and spending.wall_time_over)
    )


@pytest.mark.parametrize(
    ("spent", "ended_by"),
    [
        (replace(FRESH, trials_created=2), "trials"),
        (replace(FRESH, exhausted=True), "exhausted"),
        (replace(FRESH, exhausted=True, trials_created=2), "trials"),
        (replace(FRESH, state="stopping"), "stopped"),
        (replace(FRESH, trials_created=2, wall_time_over=True), "wall_time"),
        (replace(FRESH, state="stopping", wall_time_over=True), "wall_time"),
    ],
)
def test_what_ended_a_search_is_told(spent: Spending, ended_by: str) -> None:
    assert budget.ended_by(spent) == ended_by


@given(spendings)
def test_what_the_search_paused_is_unwanted_once_it_is_over_and_not_before(
    spending: Spending,
) -> None:
    over = spending.exhausted or spending.wall_time_over or spending.state == "stopping"
    goes_on = spending.state in ("active", "stopping")
    unwanted = spending.paused_by_search and goes_on and over
    assert budget.paused_are_unwanted(spending) == unwanted


def test_a_study_goes_on_while_the_search_may_take_up_what_it_paused() -> None:
    spent = replace(FRESH, trials_created=2, unfinished=True, paused_by_search=True)
    assert not budget.paused_are_unwanted(spent)
    assert budget.next_state(spent) == "active"


@pytest.mark.parametrize(
    "over",
    [{"state": "stopping"}, {"exhausted": True}, {"wall_time_over": True}],
    ids=str,
)
def test_each_end_of_a_search_prunes_what_it_paused(over: dict[str, Any]) -> None:
    paused = replace(FRESH, unfinished=True, paused_by_search=True)
    assert budget.paused_are_unwanted(replace(paused, **over))
