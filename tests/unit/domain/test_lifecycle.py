"""The states, the legal steps between them, and what Optuna calls them: the table of the design, written a second time."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis.strategies import DataObject, data, sampled_from

from service.domain.lifecycle import STUDY_STEPS, TRIAL_STEPS, is_over, optuna_state
from trimtab.contract.studies import StudyState
from trimtab.contract.trials import FailureKind, TrialState

TRIAL = {
    "queued": "running cancelled",
    "running": "queued paused completed pruned failed cancelled",
    "paused": "queued running pruned cancelled",
    "completed": "",
    "pruned": "",
    "failed": "",
    "cancelled": "",
}
STUDY = {
    "active": "paused stopping finalising done cancelled deleting",
    "paused": "active stopping cancelled deleting",
    "stopping": "finalising done cancelled deleting",
    "finalising": "done cancelled deleting",
    "done": "deleting",
    "cancelled": "deleting",
    "deleting": "",
}
OPTUNA = {
    "queued": "WAITING",
    "running": "RUNNING",
    "paused": "WAITING",
    "completed": "COMPLETE",
    "pruned": "PRUNED",
    "failed": "FAIL",
    "cancelled": "FAIL",
}
TRIAL_STATES: tuple[TrialState, ...] = get_args(TrialState)
STUDY_STATES: tuple[StudyState, ...] = get_args(StudyState)
FAILURES: tuple[FailureKind, ...] = get_args(FailureKind)


def test_the_steps_are_those_of_the_design() -> None:
    assert {state: set(steps) for state, steps in TRIAL_STEPS.items()} == {
        state: set(steps.split()) for state, steps in TRIAL.items()
    }
    assert {state: set(steps) for state, steps in STUDY_STEPS.items()} == {
        state: set(steps.split()) for state, steps in STUDY.items()
    }


def test_every_state_of_the_contract_has_its_row() -> None:
    assert set(TRIAL_STEPS) == set(TRIAL_STATES)
    assert set(STUDY_STEPS) == set(STUDY_STATES)


@given(sampled_from(TRIAL_STATES), data())
def test_a_trial_that_is_over_never_changes_and_any_other_can_still_end(
    state: TrialState, choice: DataObject
) -> None:
    for _ in range(10):
        if is_over(state):
            assert not TRIAL_STEPS[state]
            return
        assert TRIAL_STEPS[state] & {"cancelled"}
        state = choice.draw(sampled_from(sorted(TRIAL_STEPS[state])))


@given(sampled_from(STUDY_STATES), data())
def test_every_study_can_be_deleted_and_none_comes_back_from_its_end(
    state: StudyState, choice: DataObject
) -> None:
    ended = False
    while state != "deleting":
        assert "deleting" in STUDY_STEPS[state]
        ended = ended or state in ("done", "cancelled")
        state = choice.draw(sampled_from(sorted(STUDY_STEPS[state])))
        assert not ended or state == "deleting"


@pytest.mark.parametrize("state", TRIAL_STATES)
def test_optuna_calls_it(state: TrialState) -> None:
    for kind in (None, *FAILURES):
        infeasible = state == "failed" and kind in ("oom", "diverged", "recipe_unfit")
        expected = "PRUNED" if infeasible else OPTUNA[state]
        assert optuna_state(state, kind) == expected


@pytest.mark.parametrize("state", TRIAL_STATES)
def test_what_is_over_for_us_is_over_for_optuna(state: TrialState) -> None:
    assert is_over(state) == (optuna_state(state) in ("COMPLETE", "PRUNED", "FAIL"))
