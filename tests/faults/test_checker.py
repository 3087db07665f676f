"""The checker: a short history without a fault, and what it says when one thing in it is changed."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults import checker, of_events, of_tables, slowness
from tests.faults.facts import Facts
from tests.faults.log import Op, Window

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
WORKER, OTHER = "worker-a", "worker-b"
LEASE, SECOND = "lease-1", "lease-2"


def at(second: float) -> datetime:
    return BEGAN + timedelta(seconds=second)


def op(verb: str, began: float, body: Any, answer: Any = None, status: int = 200) -> Op:
    paths = {
        "claim": "/v1/leases",
        "reports": f"/v1/leases/{LEASE}/reports",
        "outcome": f"/v1/leases/{LEASE}/outcome",
    }
    time = at(began).timestamp()
    ending = "ok" if status < 400 else "fail" if status < 500 else "unknown"
    return Op("worker-0-1", time, time + 0.1, ending, "POST", paths[verb], body, status, answer)


def claim(began: float, answer: Any, status: int = 200) -> Op:
    return op("claim", began, {"worker_id": WORKER, "claim_id": "claim-1"}, answer, status)


def lease(lease_id: str = LEASE, study: str = "one") -> dict[str, Any]:
    told: dict[str, Any] = {"study": study, "trial_number": 0, "kind": "trial"}
    told["hyperparameters"] = {"x": 0.5}
    told["seed_index"] = 0
    return {"lease_id": lease_id, "seed": 1, "resume": None, "previous": None} | told


def event(id_: int, kind: str, fence: int = 1, **body: Any) -> dict[str, Any]:
    return {"id": id_, "study_id": 1, "trial_id": 7, "fence": fence, "kind": kind, "body": body}


def history() -> Facts:
    """One study of one trial: claimed, reported, completed."""
    study = {
        "study_id": 1,
        "name": "one",
        "state": "done",
        "document": {
            "budget": {"trials": 1},
            "space": {"x": {"kind": "float", "low": 0, "high": 1}},
        },
        "trials_created": 1,
        "exhausted": False,
        "wall_time_s": None,
        "max_crashes": 3,
        "lease_ttl": timedelta(seconds=2),
        "final": None,
    }
    trial = {
        "trial_id": 7,
        "kind": "trial",
        "seed_index": 0,
        "study_id": 1,
        "number": 0,
        "state": "completed",
        "hyperparameters": {"x": 0.5},
        "fence": 1,
        "crashes": 0,
        "error_kind": None,
        "value": 0.75,
        "curve": [[0, 0.75]],
        "checkpoint": None,
        "best_checkpoint": None,
        "runs_until": None,
    }
    attempt = {
        "lease_id": LEASE,
        "trial_id": 7,
        "kind": "trial",
        "seed_index": 0,
        "fence": 1,
        "worker_id": WORKER,
        "started_at": at(1),
        "ended_at": at(3),
        "outcome": "completed",
        "became": "completed",
        "outcome_sha256": "0" * 64,
        "error_kind": None,
    }
    return Facts(
        ours={
            "studies": [study],
            "workers": [
                {"worker_id": WORKER, "capacity": 2},
                {"worker_id": OTHER, "capacity": 1},
            ],
            "artifacts": [],
            "trials": [trial],
            "attempts": [attempt],
            "reports": [{"trial_id": 7, "fence": 1, "step": 0, "value": 0.75}],
            "events": [
                event(1, "trial_started"),
                event(2, "reported", step=0),
                event(3, "trial_completed", value=0.75),
            ],
        },
        optunas={
            "studies": [{"study_id": 1}],
            "trials": [{"trial_id": 7, "study_id": 1, "number": 0, "state": "COMPLETE"}],
            "trial_values": [{"trial_id": 7, "value": 0.75}],
            "trial_intermediate_values": [
                {
                    "trial_id": 7,
                    "step": 0,
                    "intermediate_value": 0.75,
                    "intermediate_value_type": "FINITE",
                }
            ],
            "trial_params": [{"trial_id": 7, "param_name": "x"}],
            "trial_system_attributes": [],
        },
        ops=[
            claim(1, {"leases": [lease()]}),
            op(
                "reports", 2, {"reports": [{"step": 0, "value": 0.75}]}, {"verdict": "continue"}
            ),
            op("outcome", 3, {"kind": "completed", "value": 0.75}, {"state": "completed"}),
        ],
    )


def broken(facts: Facts) -> set[str]:
    return {violation.invariant for violation in checker.check(facts)}


def without(facts: Facts, **changes: Any) -> Facts:
    """The same facts with some parts replaced."""
    parts = {name: getattr(facts, name) for name in Facts.__dataclass_fields__}
    return Facts(**parts | changes)


def more_ops(facts: Facts, *ops: Op) -> Facts:
    return without(facts, ops=[*facts.ops, *ops])


def test_a_history_without_a_fault_breaks_nothing() -> None:
    assert checker.check(history()) == []


def a_second_trial(facts: Facts) -> None:
    facts.ours["trials"].append(facts.ours["trials"][0] | {"trial_id": 8, "number": 1})


def a_second_holder(facts: Facts) -> None:
    second = {"lease_id": SECOND, "fence": 2, "worker_id": OTHER, "started_at": at(2)}
    facts.ours["attempts"].append(facts.ours["attempts"][0] | second)


def a_word_after_the_end(facts: Facts) -> None:
    facts.ours["events"].append(event(4, "reported", step=1))


def a_word_of_another_time(facts: Facts) -> None:
    facts.ours["events"].insert(1, event(1, "reported", fence=2, step=1))


def a_lost_report(facts: Facts) -> None:
    facts.ours["reports"].clear()


def another_value_in_optuna(facts: Facts) -> None:
    facts.optunas["trial_values"][0]["value"] = 0.5


def a_ghost_in_optuna(facts: Facts) -> None:
    facts.optunas["trials"][0]["state"] = "RUNNING"


def an_uncounted_crash(facts: Facts) -> None:
    facts.ours["trials"][0]["crashes"] = 1


def a_trial_without_an_end(facts: Facts) -> None:
    facts.ours["trials"][0]["state"] = "queued"


def other_hyperparameters(facts: Facts) -> None:
    facts.ours["trials"][0]["hyperparameters"] = {"x": 1.5}


def a_word_beyond_the_search(facts: Facts, verdict: str = "continue") -> None:
    facts.ours["trials"][0]["runs_until"] = 1
    told = {"trial_id": 7, "fence": 1, "step": 1, "value": 0.75, "verdict": verdict}
    facts.ours["reports"].append(told)


def a_row_of_what_was_deleted(facts: Facts) -> None:
    facts.optunas["trial_params"].append({"trial_id": 99, "param_name": "x"})


@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        (a_second_trial, "I1"),
        (a_second_holder, "I2"),
        (a_second_holder, "I3"),
        (a_word_of_another_time, "I4"),
        (a_word_after_the_end, "I5"),
        (a_trial_without_an_end, "I6"),
        (a_lost_report, "I7"),
        (another_value_in_optuna, "I8"),
        (a_ghost_in_optuna, "I9"),
        (an_uncounted_crash, "I10"),
        (a_lost_report, "I11"),
        (other_hyperparameters, "I15"),
        (a_row_of_what_was_deleted, "I19"),
        (a_word_beyond_the_search, "I25"),
    ],
)
def test_one_thing_that_is_wrong_with_what_is_stored_is_found(
    change: Callable[[Facts], None], invariant: str
) -> None:
    facts = copy.deepcopy(history())
    change(facts)
    assert invariant in broken(facts)


def test_a_trial_that_was_told_to_pause_too_late_may_complete() -> None:
    facts = copy.deepcopy(history())
    a_word_beyond_the_search(facts, "pause")
    assert "I25" not in broken(facts)


WHY = {"rule": "asha", "text": "Others promise more.", "epoch": 1}


def paused_events(*after: dict[str, Any], reason: Any = WHY) -> list[dict[str, Any]]:
    """A trial that reported once and was paused, by the search where there is a reason; then what came after."""
    body = {} if reason is None else {"reason": reason}
    begun = [event(1, "trial_started"), event(2, "reported", step=0)]
    return [*begun, event(3, "trial_paused", **body), *after]


def found_in(events: list[dict[str, Any]]) -> set[str]:
    facts = copy.deepcopy(history())
    facts.ours["events"] = events
    return {found.invariant for found in of_events.events_follow_the_lifecycle(facts)}


def test_a_trial_that_the_search_paused_may_be_taken_up_again_and_goes_on() -> None:
    resumed = event(4, "trial_resumed", 2)
    told = event(5, "reported", 2, step=1)
    done = event(6, "trial_completed", 2)
    assert found_in(paused_events(resumed, told, done)) == set()


def test_a_step_that_is_trained_again_after_the_search_paused_the_trial_is_found() -> None:
    resumed, done = event(4, "trial_resumed", 2), event(6, "trial_completed", 2)
    again = event(5, "reported", 2, step=0)
    assert found_in(paused_events(resumed, again, done)) == {"I24"}


def test_a_trial_that_a_person_paused_is_queued_before_it_goes_on_and_may_repeat_a_step() -> (
    None
):
    resumed, again = event(5, "trial_resumed", 2), event(6, "reported", 2, step=0)
    done = event(7, "trial_completed", 2)
    assert found_in(paused_events(resumed, again, done, reason=None)) == {"I4"}
    queued = event(4, "trial_queued")
    assert found_in(paused_events(queued, resumed, again, done, reason=None)) == set()


@pytest.mark.parametrize("kind", ["trial_pruned", "trial_cancelled"])
def test_a_trial_that_the_search_paused_may_end_there(kind: str) -> None:
    facts = copy.deepcopy(history())
    facts.ours["trials"][0]["state"] = kind.removeprefix("trial_")
    facts.ours["events"] = paused_events(event(4, kind))
    assert list(of_events.events_follow_the_lifecycle(facts)) == []


def test_a_trial_that_the_search_has_just_paused_is_stored_as_paused() -> None:
    facts = copy.deepcopy(history())
    facts.ours["trials"][0]["state"] = "paused"
    facts.ours["events"] = paused_events()
    assert list(of_events.events_follow_the_lifecycle(facts)) == []


@pytest.mark.parametrize(
    ("refit_of", "final_of", "refit_ended", "found"),
    [
        (8, 8, 5, set[str]()),
        (8, 7, 5, {"I18"}),
        (7, 8, 5, {"I23"}),
        (8, 8, 7, {"I23"}),
        (8, 8, None, {"I23"}),
        (None, 8, 5, {"I23"}),
    ],
)
def test_a_finish_with_another_trial_or_before_its_time_is_found(
    refit_of: int | None, final_of: int, refit_ended: int | None, found: set[str]
) -> None:
    facts = copy.deepcopy(history())
    facts.ours["studies"][0]["document"]["finish"] = {"refit": True, "ensemble": 1}
    trial = facts.ours["trials"][0]
    # As good as the first, and better in the later half of its epochs.
    better = trial | {"trial_id": 8, "number": 1, "curve": [[0, 0.1], [1, 0.8]]}
    ended = None if refit_ended is None else at(refit_ended)
    refit = better | {"trial_id": refit_of, "kind": "refit", "ended_at": ended}
    final = better | {"trial_id": final_of, "kind": "final", "created_at": at(6)}
    facts.ours["trials"] += [better, final, *([refit] if refit_of else [])]
    assert {one.invariant for one in of_tables.the_winner_is_the_best(facts)} == found


@pytest.mark.parametrize(
    ("seeds", "found"), [((0, 1), set[str]()), ((0,), {"I23"}), ((0, 2), {"I23"})]
)
def test_refits_with_other_seeds_than_the_finish_takes_are_found(
    seeds: tuple[int, ...], found: set[str]
) -> None:
    facts = copy.deepcopy(history())
    facts.ours["studies"][0]["document"]["finish"] = {"refit": True, "ensemble": 1, "seeds": 2}
    trial = facts.ours["trials"][0]
    refit = trial | {"kind": "refit", "ended_at": at(5)}
    facts.ours["trials"] += [refit | {"seed_index": index} for index in seeds]
    assert {one.invariant for one in of_tables.the_winner_is_the_best(facts)} == found


def test_events_of_two_refits_of_a_trial_are_told_apart_by_their_seed() -> None:
    facts = copy.deepcopy(history())
    refit = facts.ours["trials"][0] | {"kind": "refit"}
    facts.ours["trials"] += [refit, refit | {"seed_index": 1}]
    of_both = [
        event(4 + 2 * place, kind, fence, **told)
        for place, (kind, fence) in enumerate(
            [("refit_queued", 0), ("refit_started", 1), ("refit_settled", 1)]
        )
        for told in ({}, {"seed_index": 1})
    ]
    facts.ours["events"] += of_both
    assert list(of_events.events_follow_the_lifecycle(facts)) == []
    facts.ours["events"][-1]["body"].clear()
    assert {one.invariant for one in of_events.events_follow_the_lifecycle(facts)} == {"I5"}


@pytest.mark.parametrize(("more", "found"), [(1, set[str]()), (2, {"I13"})])
def test_more_leases_at_a_time_than_the_worker_registered_for_are_found(
    more: int, found: set[str]
) -> None:
    facts = history()
    (first,) = facts.ours["attempts"]
    facts.ours["attempts"] += [
        first | {"lease_id": f"lease-{n}", "trial_id": 7 + n, "started_at": at(2)}
        for n in range(1, 1 + more)
    ]
    facts.ours["attempts"].append(first | {"lease_id": SECOND, "started_at": at(3)})
    assert {one.invariant for one in of_tables.one_lease_per_slot(facts)} == found


@pytest.mark.parametrize(
    ("beside", "lease_id", "trained"),
    [("one", LEASE, {LEASE}), (None, LEASE, set[str]()), ("one", SECOND, set[str]())],
)
def test_what_a_worker_claimed_beside_its_others_counts_once_it_has_reported(
    beside: str | None, lease_id: str, trained: set[str]
) -> None:
    request = {"worker_id": WORKER, "claim_id": "claim-2", "beside": beside}
    facts = history()
    granted = op("claim", 1, request, {"leases": [lease(lease_id)]})
    assert more_ops(facts, granted).trained_beside == trained


BUSY = {"type": "/problems/worker-busy"}
RESULT = {"kind": "completed", "value": 0.75}


@pytest.mark.parametrize(
    ("said", "invariant"),
    [
        (op("outcome", 4, RESULT | {"value": 0.5}, {"state": "completed"}), "I12"),
        (op("outcome", 4, RESULT, {"state": "failed"}), "I21"),
        (claim(4, {"leases": [lease(SECOND)]}), "I21"),
        (claim(4, BUSY, 409), "I21"),
        (op("outcome", 4, RESULT, status=500), "I20"),
        (op("outcome", 4, RESULT, status=503), "I20"),
    ],
)
def test_one_answer_that_is_wrong_is_found(said: Op, invariant: str) -> None:
    assert invariant in broken(more_ops(history(), said))


def test_a_worker_that_is_busy_with_another_claims_lease_may_be_told_so_before_it_is_served() -> (
    None
):
    assert broken(more_ops(history(), claim(0, BUSY, 409))) == set()


def test_a_repeated_claim_may_tell_of_states_that_were_recorded_meanwhile() -> None:
    first, second = ({"step": step, "sha256": f"{step}" * 64, "bytes": 50} for step in (0, 1))
    again = claim(2, {"leases": [lease() | {"resume": second, "previous": first}]})
    assert "I21" not in broken(more_ops(history(), again))


def test_a_deleted_study_takes_the_memory_of_its_claims_along() -> None:
    deleted = claim(0, {"leases": [lease(SECOND, study="deleted")]})
    assert broken(more_ops(history(), deleted)) == set()


@pytest.mark.parametrize(
    ("kind", "ended", "excused"), [("slow", -5, True), ("slow", -15, False)]
)
def test_a_503_near_a_fault_or_a_slow_moment_of_the_machine_is_excused(
    kind: str, ended: float, excused: bool
) -> None:
    window = Window(kind, "machine", at(ended - 1).timestamp(), at(ended).timestamp())
    facts = without(more_ops(history(), op("outcome", 4, RESULT, status=503)), windows=[window])
    assert ("I20" not in broken(facts)) == excused


def test_work_that_took_too_long_is_a_slow_moment() -> None:
    windows: list[Window] = []
    for took_s in (0.01, 2.0):
        times = iter((10.0, 10.0 + took_s))
        slowness.look(windows, lambda: None, lambda times=times: next(times))
    assert windows == [Window("slow", "machine", 10.0, 12.0)]


def test_a_secret_in_a_log_is_found() -> None:
    facts = without(history(), logs={"service-0.log": "token=s3cret"}, secrets=["s3cret"])
    assert broken(facts) == {"I22"}
