"""What a lease's holder is told, and what becomes of a trial when its lease ends: every decision."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, builds, floats, integers, just, sampled_from

from service.domain import leasing
from service.domain.leasing import Departure, Held
from service.domain.lifecycle import TRIAL_STEPS
from trimtab.contract.leases import Completed, Failed, Outcome, Pruned, Verdict
from trimtab.contract.studies import StudyState
from trimtab.contract.trials import FailureKind, TrialState

STUDY_STATES: tuple[StudyState, ...] = get_args(StudyState)
FAILURES: tuple[FailureKind, ...] = get_args(FailureKind)
OWN_FAILURES = tuple(
    kind for kind in FAILURES if kind not in ("cancelled", "data_missing", "user_error")
)
"""Of a trial or its worker, where nothing that the study names is missing or wrong."""
UNWANTED: tuple[StudyState, ...] = ("cancelled", "deleting")
WANTED: tuple[StudyState, ...] = tuple(s for s in STUDY_STATES if s not in UNWANTED)

helds = builds(
    Held,
    kind=sampled_from(["trial", "refit", "final"]),
    study_state=sampled_from(STUDY_STATES),
    wall_time_over=booleans(),
    crashes=integers(0, 5),
    max_crashes=integers(1, 5),
)
outcomes = (
    builds(Completed, value=floats(allow_nan=False, allow_infinity=False))
    | just(Pruned())
    | builds(Failed, error=sampled_from(FAILURES), retryable=booleans())
)


def a_held(state: StudyState = "active", **changes: object) -> Held:
    facts = {"kind": "trial", "wall_time_over": False, "crashes": 0, "max_crashes": 3}
    return Held(study_state=state, **(facts | changes))  # pyright: ignore[reportArgumentType] - facts by name


@given(helds, outcomes, sampled_from(["drain", "paused"]))
def test_every_departure_is_a_legal_step_and_whole(
    held: Held, outcome: Outcome, reason: str
) -> None:
    departures = [
        leasing.settled(held, outcome),
        leasing.released(held, "drain" if reason == "drain" else "paused"),
        leasing.expired(held),
    ]
    for departure in departures:
        assert departure.state in TRIAL_STEPS["running"]
        assert (departure.value is not None) == (departure.state == "completed")
        assert departure.delay_s == 0 or departure.state == "queued"
        assert departure.state not in ("failed", "cancelled") or departure.error_kind
        assert departure.event(held.kind)


@given(helds, outcomes)
def test_an_outcome_that_decides_alone_ends_its_trial_alike_in_every_study(
    held: Held, outcome: Outcome
) -> None:
    if leasing.depends_on_outcome_alone(outcome):
        assert leasing.settled(held, outcome) == leasing.settled_for_good(outcome)


@given(outcomes)
def test_an_outcome_that_does_not_decide_alone_ends_differently_in_a_cancelled_study(
    outcome: Outcome,
) -> None:
    if not leasing.depends_on_outcome_alone(outcome):
        ends = [leasing.settled(a_held(state), outcome) for state in ("active", "cancelled")]
        assert ends[0] != ends[1]


@given(helds, booleans())
def test_every_trial_of_an_active_study_within_its_wall_time_is_told_what_a_wanted_one_is(
    held: Held, prune: bool
) -> None:
    if (held.kind, held.study_state, held.wall_time_over) == ("trial", "active", False):
        told = leasing.verdict(held, prune=prune)
        assert told == leasing.verdict(leasing.WANTED, prune=prune)


@pytest.mark.parametrize("state", STUDY_STATES)
@pytest.mark.parametrize("prune", [False, True])
def test_the_studys_state_outranks_the_pruner(state: StudyState, prune: bool) -> None:
    expected: Verdict = "stop" if prune else "continue"
    if state in UNWANTED:
        expected = "cancel"
    elif state == "paused":
        expected = "pause"
    assert leasing.verdict(a_held(state), prune=prune) == expected


@pytest.mark.parametrize("state", STUDY_STATES)
@pytest.mark.parametrize("prune", [False, True])
def test_when_the_wall_time_is_over_a_trial_is_to_finish_and_what_the_finish_takes_goes_on(
    state: StudyState, prune: bool
) -> None:
    told = leasing.verdict(a_held(state, wall_time_over=True), prune=prune)
    assert told == ("cancel" if state in UNWANTED else "finish")
    for kind in ("refit", "final"):
        late = a_held(state, wall_time_over=True, kind=kind)
        in_time = a_held(state, kind=kind)
        assert leasing.verdict(late, prune=False) == leasing.verdict(in_time, prune=False)


@given(helds, floats(allow_nan=False, allow_infinity=False))
def test_a_value_that_arrives_counts_whatever_the_study_became(
    held: Held, value: float
) -> None:
    assert leasing.settled(held, Completed(value=value)) == Departure(
        "completed", "completed", value=value
    )


@given(helds)
def test_a_pruned_trial_is_pruned_whatever_the_study_became(held: Held) -> None:
    assert leasing.settled(held, Pruned()) == Departure("pruned", "pruned")


@given(helds, booleans())
def test_a_cancelled_trial_is_no_failure_and_no_crash(held: Held, retryable: bool) -> None:
    departure = leasing.settled(held, Failed(error="cancelled", retryable=retryable))
    assert departure == Departure("cancelled", "cancelled", error_kind="cancelled")


@given(helds, sampled_from(OWN_FAILURES))
def test_a_failure_that_is_final_ends_the_trial_with_its_kind_and_message(
    held: Held, kind: FailureKind
) -> None:
    departure = leasing.settled(held, Failed(error=kind, message="why"))
    assert departure == Departure("failed", "failed", error_kind=kind, error_message="why")


@given(helds, sampled_from(["data_missing", "user_error"]), booleans())
def test_what_a_worker_lacks_costs_the_trial_nothing(
    held: Held, kind: FailureKind, retryable: bool
) -> None:
    departure = leasing.settled(held, Failed(error=kind, message="why", retryable=retryable))
    assert (departure.crash, departure.delay_s, departure.outcome) == (False, 0.0, "set_aside")
    if held.unwanted:
        assert (departure.state, departure.error_kind) == ("cancelled", "cancelled")
    else:
        assert (departure.state, departure.error_kind) == ("queued", kind)
        assert departure.error_message == "why"


@given(helds, sampled_from(OWN_FAILURES))
def test_a_retryable_failure_is_a_crash_as_silence_is(held: Held, kind: FailureKind) -> None:
    if held.is_last_try and kind in ("oom", "diverged", "recipe_unfit"):
        return
    failed = leasing.settled(held, Failed(error=kind, message="why", retryable=True))
    silent = leasing.expired(held)
    assert failed.crash
    assert silent.crash
    assert (failed.outcome, silent.outcome) == ("failed", "expired")
    assert (failed.state, failed.delay_s) == (silent.state, silent.delay_s)


@pytest.mark.parametrize("crashes", range(6))
@pytest.mark.parametrize("max_crashes", range(1, 6))
@pytest.mark.parametrize("kind", ["trial", "refit", "final"])
def test_a_crash_is_retried_until_they_are_too_many(
    kind: str, crashes: int, max_crashes: int
) -> None:
    departure = leasing.expired(a_held(kind=kind, crashes=crashes, max_crashes=max_crashes))
    if crashes + 1 < max_crashes:
        assert departure.state == "queued"
        assert departure.delay_s == 5 * 2**crashes
    else:
        assert (departure.state, departure.error_kind) == ("failed", "poison")
        times = "time" if crashes == 0 else "times"
        assert departure.error_message == (
            f"Failed {crashes + 1} {times}; the last: killed: The worker fell silent."
        )


def test_the_back_off_doubles_up_to_five_minutes() -> None:
    waits = [leasing.back_off_s(crashes) for crashes in range(10)]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert leasing.back_off_s(10**6) == 300


@pytest.mark.parametrize("state", UNWANTED)
def test_nobody_retries_what_nobody_wants(state: StudyState) -> None:
    for departure in (
        leasing.expired(a_held(state)),
        leasing.settled(a_held(state), Failed(error="crashed", retryable=True)),
    ):
        assert (departure.state, departure.error_kind) == ("cancelled", "cancelled")


RELEASES: list[tuple[str, StudyState, str, TrialState]] = [
    *(("trial", state, "drain", "queued") for state in WANTED),
    *((kind, state, reason, "queued") for kind in ("refit", "final") for reason in ("drain", "paused") for state in WANTED),
    *(("trial", state, "paused", "queued") for state in WANTED if state != "paused"),
    ("trial", "paused", "paused", "paused"),
    *((kind, state, reason, "cancelled") for kind in ("trial", "refit", "final") for state in UNWANTED for reason in ("drain", "paused")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "state", "reason", "becomes"), RELEASES)
def test_a_release_counts_no_crash_and_the_trial_becomes(
    kind: str, state: StudyState, reason: str, becomes: TrialState
) -> None:
    held = a_held(state, kind=kind, crashes=2)
    departure = leasing.released(held, "drain" if reason == "drain" else "paused")
    assert departure.state == becomes
    assert departure.outcome == ("drained" if reason == "drain" else "paused")
    assert not departure.crash
    assert departure.delay_s == 0


@pytest.mark.parametrize("reason", ["drain", "paused"])
def test_a_trial_given_back_after_the_wall_time_is_cancelled(reason: str) -> None:
    held = a_held(wall_time_over=True)
    departure = leasing.released(held, "drain" if reason == "drain" else "paused")
    assert departure.state == "cancelled"


@pytest.mark.parametrize("kind", ["oom", "diverged", "recipe_unfit"])
def test_an_infeasible_configuration_is_told_to_optuna_as_pruned(kind: FailureKind) -> None:
    departure = leasing.settled(a_held(), Failed(error=kind))
    assert (departure.state, departure.optuna_state) == ("failed", "PRUNED")
    assert leasing.settled(a_held(), Failed(error="crashed")).optuna_state == "FAIL"


def test_a_trial_given_up_keeps_the_kind_by_which_its_configuration_is_at_fault() -> None:
    last = a_held(crashes=2, max_crashes=3)
    killed = leasing.settled(last, Failed(error="oom", message="no memory", retryable=True))
    assert killed == Departure("failed", "failed", error_kind="oom", error_message="no memory")
    unwanted = leasing.settled(
        a_held("cancelled", crashes=2), Failed(error="oom", retryable=True)
    )
    assert unwanted.state == "cancelled"
    crashed = leasing.settled(last, Failed(error="crashed", retryable=True))
    assert crashed.error_kind == "poison"


def test_an_event_is_named_by_what_became_of_it() -> None:
    ends = {
        "trial_completed": leasing.settled(a_held(), Completed(value=1.0)),
        "trial_pruned": leasing.settled(a_held(), Pruned()),
        "trial_failed": leasing.settled(a_held(), Failed(error="oom")),
        "trial_cancelled": leasing.expired(a_held("cancelled")),
        "trial_queued": leasing.released(a_held(), "drain"),
        "trial_paused": leasing.released(a_held("paused"), "paused"),
    }
    for name, departure in ends.items():
        assert departure.event("trial") == name
        became = "settled" if departure.is_over else "queued"
        assert departure.event("refit") == f"refit_{became}"
        assert departure.event("final") == f"final_{became}"


class TestPausedBySearch:
    def test_it_is_told_so_until_it_is_given_back_unless_something_outranks_that(self):
        held = a_held(paused_by_search=True)
        assert leasing.verdict(held, prune=False) == "pause"
        over = a_held(paused_by_search=True, wall_time_over=True)
        assert leasing.verdict(over, prune=False) == "finish"
        for state in UNWANTED:
            cancelled = a_held(state, paused_by_search=True)
            assert leasing.verdict(cancelled, prune=False) == "cancel"

    @pytest.mark.parametrize("reason", ["drain", "paused"])
    def test_given_back_for_whatever_reason_it_is_paused(self, reason: str):
        for state in WANTED:
            held = a_held(state, paused_by_search=True, wall_time_over=state == "active")
            departure = leasing.released(held, "drain" if reason == "drain" else "paused")
            assert departure.state == "paused"
            assert departure.outcome == ("drained" if reason == "drain" else "paused")
        for state in UNWANTED:
            held = a_held(state, paused_by_search=True)
            assert leasing.released(held, "paused").state == "cancelled"

    @pytest.mark.parametrize(("is_saved", "state"), [(True, "paused"), (False, "queued")])
    def test_a_crash_before_that_costs_what_is_not_saved_and_counts(
        self, is_saved: bool, state: TrialState
    ):
        held = a_held(paused_by_search=True, is_saved=is_saved)
        for departure in (
            leasing.expired(held),
            leasing.settled(held, Failed(error="crashed", retryable=True)),
        ):
            assert (departure.state, departure.crash) == (state, True)
            assert departure.delay_s == (0 if is_saved else 5)

    def test_the_last_crash_that_it_may_have_gives_it_up_as_any_trial(self):
        held = a_held(paused_by_search=True, is_saved=True, crashes=2)
        assert leasing.expired(held).state == "failed"

    def test_what_nobody_paused_is_queued_whatever_is_saved(self):
        assert leasing.expired(a_held(is_saved=True)).state == "queued"


@pytest.mark.parametrize(
    ("state", "wall_time_over", "told"),
    [
        ("active", False, "stop"),
        ("active", True, "stop"),
        ("paused", False, "stop"),
        ("stopping", False, "stop"),
        ("cancelled", False, "cancel"),
    ],
)
def test_a_trial_that_a_person_stops_is_told_to_stop_unless_its_study_is_cancelled(
    state: StudyState, wall_time_over: bool, told: Verdict
) -> None:
    held = a_held(state, stop_asked=True, wall_time_over=wall_time_over)
    assert leasing.verdict(held, prune=False) == told


def test_a_trial_that_a_person_stops_is_not_tried_again() -> None:
    held = a_held(stop_asked=True)
    crash = Failed(error="crashed", retryable=True)
    for departure in (
        leasing.expired(held),
        leasing.settled(held, crash),
        leasing.released(held, "drain"),
        leasing.released(a_held("paused", stop_asked=True), "paused"),
        leasing.set_aside(held, "no such folder", "data_missing"),
    ):
        assert (departure.state, departure.error_kind) == ("cancelled", "cancelled")
