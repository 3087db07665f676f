"""What may be changed of a study that has begun."""

from typing import Any, get_args

import pytest

from service.domain.editing import BUDGET_MAY_CHANGE, Spent, edited, faults, refusal
from service.domain.lifecycle import STUDY_STEPS, STUDY_STEPS_BACK
from tests.support.documents import a_study_document
from trimtab.contract.edits import BudgetEdit, StudyEdit
from trimtab.contract.studies import StudyDocument, StudyState


def an_edit(*, priority: int | None = None, **budget: Any) -> StudyEdit:
    return StudyEdit(budget=BudgetEdit(**budget), priority=priority)


def a_study(**changes: Any) -> StudyDocument:
    return a_study_document(**changes)


def spent(**changes: Any) -> Spent:
    found: dict[str, Any] = {
        "state": "active",
        "trials_created": 0,
        "active_s": 0.0,
        "exhausted": False,
    }
    return Spent(**found | changes)


def test_what_is_not_named_stays() -> None:
    before = a_study(budget={"trials": 4, "wall_time_s": 60, "epochs": 90})
    assert edited(before, an_edit(priority=3)) == before.model_copy(update={"priority": 3})
    longer = edited(before, an_edit(trials=9))
    assert longer.budget == before.budget.model_copy(update={"trials": 9})
    assert edited(before, an_edit(wall_time_s=90)).budget.wall_time_s == 90
    assert edited(before, an_edit(wall_time_s="none")).budget.wall_time_s is None


def test_an_edit_names_something() -> None:
    empty: list[dict[str, Any]] = [{}, {"budget": {}}, {"budget": {"trials": None}}]
    for nothing in empty:
        with pytest.raises(ValueError, match="changes nothing"):
            StudyEdit.model_validate(nothing)


@pytest.mark.parametrize("state", get_args(StudyState))
def test_each_state_takes_the_budget_or_says_what_to_do(state: StudyState) -> None:
    before = a_study()
    why = refusal(before, edited(before, an_edit(trials=9)), state)
    assert (why is None) == (state in ("active", "paused", "done"))
    assert why is None or state.removesuffix("deleting") in why


def test_a_state_that_ended_is_taken_up_again_only_where_the_table_says_so() -> None:
    ends = {state for state in BUDGET_MAY_CHANGE if "active" not in STUDY_STEPS[state]}
    assert ends - {"active"} == set(STUDY_STEPS_BACK) == {"done"}


@pytest.mark.parametrize(
    ("finish", "state", "created", "trials", "fewest"),
    [
        ({"refit": False}, "active", 3, 3, None),
        ({"refit": False}, "active", 3, 2, 3),
        ({"refit": True}, "active", 3, 3, 4),
        (
            {"refit": True, "ensemble": 3},
            "active",
            1,
            5,
            6,
        ),  # an ensemble of three needs three to choose from
        ({"refit": False}, "done", 3, 3, 4),
        ({"refit": False}, "done", 3, 4, None),
        ({"refit": True}, "done", 3, 4, 5),
    ],
)
def test_a_budget_covers_what_has_begun_and_the_finish(
    finish: dict[str, Any], state: StudyState, created: int, trials: int, fewest: int | None
) -> None:
    before = a_study(budget={"trials": 12}, finish=finish)
    found = list(
        faults(
            edited(before, an_edit(trials=trials)),
            spent(state=state, trials_created=created),
        )
    )
    assert [fault.code for fault in found] == ["too_few_trials"] * (fewest is not None)
    assert all(f"give {fewest} or more" in fault.message for fault in found)
    assert all(("study stop" in fault.message) == (state != "done") for fault in found)


def test_a_wall_time_that_the_search_has_spent_is_refused_with_what_is_needed() -> None:
    before = a_study(budget={"trials": 4, "wall_time_s": 400}, finish={"refit": True})
    (fault,) = faults(edited(before, an_edit(wall_time_s=200)), spent(active_s=150.0))
    assert fault.code == "wall_time_spent"
    assert fault.message.endswith("give more than 200 s")
    assert list(faults(edited(before, an_edit(wall_time_s=201)), spent(active_s=150.0))) == []
