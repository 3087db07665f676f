"""The agent as a whole: real HTTP, a real runner process with a scripted trainer, a scripted service."""

import hashlib
import json
import threading
from pathlib import Path

import pytest

from tests.support import agents
from tests.support.agents import Start
from tests.support.leases import a_lease
from tests.support.records import a_record
from tests.support.scripted_service import ScriptedService
from tests.support.workers import REPOSITORY
from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.leases import Checkpoint
from worker.agent.agent import Agent
from worker.agent.stall_detector import Timeouts
from worker.agent.warm_runner import CannotWork


def a_checkpoint(service: ScriptedService, step: int, best_value: float) -> Checkpoint:
    content = json.dumps({"step": step, "best_value": best_value}).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    service.artifacts[sha256] = content
    return Checkpoint(step=step, sha256=sha256, bytes=len(content))


def test_what_the_runner_found_is_told_once_an_attempt(
    service: ScriptedService, start: Start
) -> None:
    for number in (0, 1):
        service.leases.append(a_lease(epochs=2, trial_number=number))
    start()
    service.wait_for(lambda: len(service.of("outcome")) == 2)
    records = service.of("record")
    assert [call.about for call in records] == [call.about for call in service.of("outcome")]
    assert records[0].body == json.loads(a_record().model_dump_json())


def test_no_trial_fails_for_its_record(service: ScriptedService, start: Start) -> None:
    service.refusals["record"] = problems.Invalid("no record of ours")
    service.leases.append(a_lease(epochs=2))
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.refused == ["record"]
    assert service.outcomes()[0]["kind"] == "completed"


def test_a_trial_reports_every_epoch_and_settles_with_its_best_value(
    service: ScriptedService, start: Start
) -> None:
    service.leases.append(a_lease(epochs=5))
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.steps() == [0, 1, 2, 3, 4]
    assert service.outcomes()[0]["kind"] == "completed"
    assert service.outcomes()[0]["value"] == 0.9


def test_the_best_epochs_state_is_stored_and_recorded_before_the_trial_is_settled(
    service: ScriptedService, start: Start
) -> None:
    service.leases.append(a_lease(epochs=5))
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    best = service.of("checkpoint")[-1].body["best"]
    assert best["step"] == 3
    assert json.loads(service.artifacts[best["sha256"]])["step"] == 3
    verbs = [call.verb for call in service.calls]
    assert verbs.index("upload") < verbs.index("checkpoint") < verbs.index("outcome")


def test_the_next_trial_runs_on_the_same_warm_runner(
    service: ScriptedService, start: Start
) -> None:
    service.leases += [a_lease(), a_lease(trial_number=1)]
    start("shout@1")
    service.wait_for(lambda: len(service.of("outcome")) == 2)
    assert [outcome["kind"] for outcome in service.outcomes()] == ["completed", "completed"]


def test_a_verdict_to_stop_ends_the_trial_as_pruned(
    service: ScriptedService, start: Start
) -> None:
    service.verdicts[1] = "stop"
    service.leases.append(a_lease())
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.steps() == [0, 1]
    assert service.outcomes() == [{"kind": "pruned"}]


def test_a_verdict_to_cancel_ends_the_trial_as_cancelled(
    service: ScriptedService, start: Start
) -> None:
    service.verdicts[1] = "cancel"
    service.leases.append(a_lease())
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.outcomes()[0]["error"] == "cancelled"


def test_a_verdict_to_pause_stores_the_state_and_releases_the_lease(
    service: ScriptedService, start: Start
) -> None:
    service.verdicts[2] = "pause"
    service.leases.append(a_lease())
    start()
    service.wait_for(lambda: bool(service.of("release")))
    assert service.of("release")[0].body == {"reason": "paused"}
    recorded = service.of("checkpoint")[-1].body["checkpoint"]
    assert recorded["step"] == 2
    assert recorded["sha256"] in service.artifacts
    assert not service.of("outcome")


def test_a_verdict_that_comes_with_a_heartbeat_is_heeded_within_the_epoch(
    service: ScriptedService, start: Start
) -> None:
    service.heartbeat_verdict = "cancel"
    service.leases.append(a_lease(ttl_s=0.4))
    start("hold@2")
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.outcomes()[0]["error"] == "cancelled"


def test_a_resumed_trial_carries_on_after_its_checkpoint_and_remembers_its_best_value(
    service: ScriptedService, start: Start
) -> None:
    service.leases.append(a_lease(epochs=5, resume=a_checkpoint(service, 3, 0.97)))
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.steps() == [4]
    assert service.outcomes()[0]["value"] == 0.97


def test_a_trial_whose_checkpoint_is_gone_begins_afresh(
    service: ScriptedService, start: Start
) -> None:
    service.leases.append(a_lease(resume=Checkpoint(step=3, sha256="0" * 64, bytes=1)))
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.steps() == [0, 1, 2, 3, 4]


def test_a_checkpoint_is_waited_for_while_the_service_is_away(
    service: ScriptedService, start: Start
) -> None:
    service.refusals["download"] = problems.Unavailable()
    service.leases.append(a_lease(epochs=5, resume=a_checkpoint(service, 3, 0.97)))
    start()
    service.wait_for(lambda: bool(service.refused))
    service.refusals.clear()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.steps() == [4]


def test_leaving_does_not_wait_for_a_checkpoint(service: ScriptedService, start: Start) -> None:
    service.refusals["download"] = problems.Unavailable()
    service.leases.append(a_lease(epochs=5, resume=a_checkpoint(service, 3, 0.97)))
    agent = start()
    service.wait_for(lambda: bool(service.refused))
    agent.leave()
    service.wait_for(lambda: bool(service.of("release")))
    assert not service.of("reports")


def test_a_final_lease_uploads_the_model_that_its_outcome_names(
    service: ScriptedService, start: Start
) -> None:
    service.leases.append(a_lease(kind="final", resume=a_checkpoint(service, 3, 0.9)))
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.outcomes()[0]["model_sha256"] in service.artifacts


def test_no_test_split_is_opened_before_the_service_has_noted_it(
    service: ScriptedService, start: Start
) -> None:
    service.refusals["record"] = problems.Unavailable()
    service.leases.append(a_lease(kind="final", resume=a_checkpoint(service, 3, 0.9)))
    start()
    service.wait_for(lambda: len(service.refused) == 2 or bool(service.of("outcome")))
    assert not service.of("upload")
    service.refusals.clear()
    service.wait_for(lambda: bool(service.of("outcome")))
    verbs = [call.verb for call in service.calls]
    assert verbs.index("record") < verbs.index("upload")
    assert service.outcomes()[0]["kind"] == "completed"


def test_a_test_split_whose_opening_is_refused_stays_sealed(
    service: ScriptedService, start: Start
) -> None:
    service.refusals["record"] = problems.Invalid("no record of ours")
    service.leases.append(a_lease(kind="final", resume=a_checkpoint(service, 3, 0.9)))
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    (outcome,) = service.outcomes()
    assert (outcome["error"], outcome["retryable"]) == ("infrastructure", True)
    assert "stays sealed" in outcome["message"]


def test_a_final_lease_that_waits_for_the_service_is_given_back_on_leaving(
    service: ScriptedService, start: Start
) -> None:
    service.refusals["record"] = problems.Unavailable()
    service.leases.append(a_lease(kind="final", resume=a_checkpoint(service, 3, 0.9)))
    agent = start()
    service.wait_for(lambda: bool(service.refused))
    agent.leave()
    service.wait_for(lambda: bool(service.of("release")))
    assert service.of("release")[0].body["reason"] == "drain"
    assert not service.of("outcome")


@pytest.mark.parametrize(
    ("cue", "error"),
    [
        ("exit@2", "crashed"),
        ("abort@2", "crashed"),
        ("garble@2", "crashed"),
        ("crash@2", "crashed"),
    ],
)
def test_a_runner_that_dies_is_reported_at_once_and_replaced(
    service: ScriptedService, start: Start, cue: str, error: str
) -> None:
    service.leases += [a_lease(), a_lease(trial_number=1)]
    start(cue)
    service.wait_for(lambda: len(service.of("outcome")) == 2)
    assert [(outcome["error"], outcome["retryable"]) for outcome in service.outcomes()] == [
        (error, True)
    ] * 2
    recorded = service.of("checkpoint")[-1].body["checkpoint"]
    assert recorded["step"] == 1, "what it had trained is carried on from"


def test_a_runner_that_hangs_is_killed_and_the_trial_reported_as_stalled(
    service: ScriptedService, start: Start
) -> None:
    service.leases.append(a_lease())
    start("hang@1", timeouts=Timeouts(stall_s=0.5))
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.outcomes()[0]["error"] == "stalled"
    assert service.outcomes()[0]["retryable"]


def test_out_of_memory_is_not_tried_again(service: ScriptedService, start: Start) -> None:
    service.leases.append(a_lease())
    start("oom@0")
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.outcomes()[0]["error"] == "oom"
    assert not service.outcomes()[0]["retryable"]


def test_leaving_puts_the_trial_aside_at_once_with_its_state(
    service: ScriptedService, start: Start
) -> None:
    service.leases.append(a_lease())
    agent = start("hold@2")
    service.wait_for(lambda: service.steps() == [0, 1])
    agent.leave()
    service.wait_for(lambda: bool(service.of("release")))
    assert service.of("release")[0].body == {"reason": "drain"}
    assert service.of("checkpoint")[-1].body["checkpoint"]["step"] == 1


def test_leaving_does_not_wait_for_a_deaf_runner_beyond_the_grace(
    service: ScriptedService, start: Start
) -> None:
    service.leases.append(a_lease())
    agent = start("hang@2", timeouts=Timeouts(grace_s=0.5))
    service.wait_for(lambda: service.steps() == [0, 1])
    agent.leave()
    service.wait_for(lambda: bool(service.of("release")))
    assert service.of("release")[0].body == {"reason": "drain"}


def test_a_lost_lease_is_given_up_and_the_next_one_claimed(
    service: ScriptedService, start: Start
) -> None:
    lost = a_lease(ttl_s=0.4)
    service.lost.add(lost.lease_id)
    service.leases += [lost, a_lease(trial_number=1, epochs=1)]
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.of("outcome")[0].about != str(lost.lease_id)
    assert set(service.turned_away) <= {"record", "reports", "heartbeat"}
    assert service.turned_away.count("reports") <= 1, "its pending epochs are not said again"


def test_a_lease_lost_within_an_epoch_is_noticed_by_the_heartbeat(
    service: ScriptedService, start: Start
) -> None:
    lost = a_lease(ttl_s=0.4)
    service.leases += [lost, a_lease(trial_number=1, epochs=1)]
    start("hold@2")
    service.wait_for(lambda: len(service.steps()) == 2)
    service.lost.add(lost.lease_id)
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.of("outcome")[0].about != str(lost.lease_id)
    assert set(service.turned_away) <= {"reports", "heartbeat"}, "nothing else is said of it"


def test_training_goes_on_while_the_service_is_away_and_catches_up(
    service: ScriptedService, start: Start
) -> None:
    for verb in ("reports", "outcome", "upload"):
        service.refusals[verb] = problems.Unavailable()
    service.leases.append(a_lease(epochs=5))
    start()
    service.wait_for(lambda: service.refused.count("reports") > 1)
    service.refusals.clear()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.steps() == [0, 1, 2, 3, 4]
    assert service.outcomes()[0]["value"] == 0.9


def test_an_outcome_is_delivered_by_the_next_process_if_this_one_cannot(
    service: ScriptedService, start: Start, tmp_path: Path
) -> None:
    service.refusals["outcome"] = problems.Unavailable()
    service.leases.append(a_lease(epochs=1))
    first = start(timeouts=Timeouts(grace_s=0.1))
    service.wait_for(lambda: bool(service.of("checkpoint")))
    first.leave()
    service.refusals.clear()
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.outcomes()[0]["value"] == 0.5


def test_a_claim_whose_answer_was_lost_is_repeated_with_its_id(
    service: ScriptedService, start: Start
) -> None:
    lease = a_lease(epochs=1)
    service.leases += [lease, a_lease(trial_number=1, epochs=1)]
    service.deaf_after.add("claim")
    start()
    service.wait_for(lambda: bool(service.of("outcome")))
    first, second = service.of("claim")[:2]
    assert first.body["claim_id"] == second.body["claim_id"]
    assert service.of("outcome")[0].about == str(lease.lease_id)


def test_a_worker_that_the_service_does_not_know_registers_again(
    service: ScriptedService, start: Start
) -> None:
    service.refusals["claim"] = problems.WorkerNotFound()
    start()
    service.wait_for(lambda: len(service.of("register")) >= 2)
    service.leases.append(a_lease(epochs=1))
    service.refusals.clear()
    service.wait_for(lambda: bool(service.of("outcome")))


def test_an_idle_worker_leaves_at_once_when_told(
    service: ScriptedService, start: Start
) -> None:
    agent = start()
    service.wait_for(lambda: bool(service.of("register")))
    agent.leave()


def test_a_lease_granted_to_a_leaving_worker_is_given_back(
    service: ScriptedService, start: Start
) -> None:
    arrives = service.withheld["claim"] = threading.Event()
    lease = a_lease()
    service.leases.append(lease)
    agent = start()
    service.wait_for(lambda: bool(service.of("claim")))
    agent.leave()
    service.wait_for(lambda: bool(service.of("release")))
    arrives.set()
    assert service.of("release")[0].about == str(lease.lease_id)
    assert not service.of("reports")


def test_a_worker_without_work_leaves_when_its_patience_ends(
    service: ScriptedService, start: Start
) -> None:
    start(exit_when_idle_s=0.5)
    service.wait_for(lambda: bool(service.of("claim")))
    assert service.of("claim")[0].body["wait_s"] <= 0.5


@pytest.mark.parametrize(
    ("verb", "refusal", "reason"),
    [
        ("register", problems.Unauthorized(), "needs the service.s token"),
        ("claim", problems.WorkerQuarantined(), "repair its machine"),
    ],
)
def test_a_service_that_refuses_the_worker_ends_it_with_a_reason(
    service: ScriptedService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    refusal: problems.Problem,
    reason: str,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    service.refusals[verb] = refusal
    with (
        Client(service.address, retry_for_s=0) as client,
        pytest.raises(CannotWork, match=reason),
    ):
        Agent(client, agents.a_plan(service, tmp_path)).run()
