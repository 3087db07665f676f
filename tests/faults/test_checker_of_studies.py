"""The checker on what a person sets of a study: `parallel`, and a changed space."""

import pytest

from tests.faults import of_events, of_tables
from tests.faults.test_checker import event, history


@pytest.mark.parametrize(
    ("parallel", "found"), [(None, set[str]()), (2, set[str]()), (1, {"I26"})]
)
def test_more_trials_at_a_time_than_the_study_may_run_are_found(
    parallel: int | None, found: set[str]
) -> None:
    facts = history()
    facts.ours["studies"][0]["parallel"] = parallel
    second = event(4, "trial_started") | {"trial_id": 8}
    facts.ours["events"] = [
        event(1, "trial_started"),
        second,
        event(5, "trial_paused"),
        event(6, "trial_completed") | {"trial_id": 8},
        event(7, "trial_resumed", fence=2),
    ]
    rule = of_events.no_more_at_a_time_than_parallel
    assert {one.invariant for one in rule(facts)} == found


@pytest.mark.parametrize(
    ("edited_at", "found"), [(None, {"I15"}), (1, set[str]()), (0, {"I15"})]
)
def test_a_proposal_outside_the_space_as_it_was_then_is_found(
    edited_at: int | None, found: set[str]
) -> None:
    facts = history()
    document = facts.ours["studies"][0]["document"]
    document["space"]["x"]["high"] = 0.4
    if edited_at is not None:
        document["space_edits"] = [{"trials": 0}, {"trials": edited_at}]
    assert {one.invariant for one in of_tables.hyperparameters_stay(facts)} == found
