"""An agent whose runner takes company: several leases at a time, each with a life of its own."""

import threading
from typing import Any

import pytest

from tests.support.agents import Start
from tests.support.leases import a_lease
from tests.support.scripted_service import ScriptedService
from trimtab.contract import problems
from trimtab.contract.leases import Lease


def probes(count: int, **changes: Any) -> list[Lease]:
    """So many trials alike, with heartbeats that come often."""
    fields: dict[str, Any] = {"epochs": 2, "ttl_s": 0.4, **changes}
    return [a_lease(trial_number=number, **fields) for number in range(count)]


def hold(service: ScriptedService, leases: list[Lease]) -> None:
    """Wait until all of them have reported an epoch, and hold at the next."""
    service.wait_for(lambda: all(service.steps(lease) == [0] for lease in leases))


def ended(service: ScriptedService, verb: str = "outcome") -> list[str]:
    return sorted(call.about for call in service.of(verb))


def ids(*leases: Lease) -> list[str]:
    return sorted(str(lease.lease_id) for lease in leases)


def claims(service: ScriptedService) -> list[str]:
    return [call.verb for call in service.calls if call.verb in ("claim", "beside")]


def test_trials_like_the_leads_run_with_it_as_many_as_the_agent_takes(
    service: ScriptedService, start: Start
) -> None:
    leases = probes(4)
    service.leases += leases
    agent = start("company hold@1", together=3)
    hold(service, leases[:3])
    agent.leave()
    service.wait_for(lambda: len(service.of("release")) == 3)
    assert service.leases == leases[3:]
    assert service.of("register")[0].body["capacity"] == 3
    assert [
        (call.body["beside"], call.body["wait_s"], call.body["capacity"])
        for call in service.of("beside")
    ] == [("digits", 0.0, 1)] * 2


def test_trials_follow_each_other_in_every_lane_and_an_ordinary_claim_the_last(
    service: ScriptedService, start: Start
) -> None:
    leases = probes(12)
    service.leases += leases
    start("company", together=3)
    service.wait_for(lambda: len(service.of("outcome")) == 12)
    service.wait_for(lambda: claims(service)[-1] == "claim")
    assert ended(service) == ids(*leases)
    assert all(service.steps(lease) == [0, 1] for lease in leases)
    assert {outcome["value"] for outcome in service.outcomes()} == {0.6}


@pytest.mark.parametrize(
    ("script", "together", "searched"),
    [
        ("", 8, "learning_rate"),
        ("company", 1, "learning_rate"),
        ("company", 8, "head_width"),
    ],
    ids=["its runner takes none", "the agent takes one", "the others will be unlike"],
)
def test_a_trial_runs_alone_where(
    service: ScriptedService, start: Start, script: str, together: int, searched: str
) -> None:
    service.leases += probes(3, hyperparameters={searched: 0.1})
    start(script, together=together)
    service.wait_for(lambda: len(service.of("outcome")) == 3)
    assert not service.of("beside")


def test_an_unlike_trial_is_given_back_and_nobody_claims_beside_any_more(
    service: ScriptedService, start: Start
) -> None:
    lead, alike, late = probes(3)
    unlike = a_lease(trial_number=3, model={"backbone": "glyphnet", "weights": "default"})
    service.leases += [lead, alike, unlike, late]
    start("company hold@1", together=4)
    hold(service, [lead, alike])
    service.wait_for(lambda: ended(service, "release") == ids(unlike))
    service.verdict_on[alike.lease_id] = "stop"
    service.wait_for(lambda: ended(service) == ids(alike))
    service.verdict_on[lead.lease_id] = "stop"
    hold(service, [late])
    assert claims(service)[:4] == ["claim", "beside", "beside", "claim"]
    assert not service.steps(unlike)


def test_a_verdict_ends_its_own_trial_and_the_lane_takes_another(
    service: ScriptedService, start: Start
) -> None:
    lead, stopped, other, late = leases = probes(4)
    service.leases += leases
    start("company hold@1", together=3)
    hold(service, [lead, stopped, other])
    service.verdict_on[stopped.lease_id] = "stop"
    hold(service, [late])
    assert ended(service) == ids(stopped)
    assert claims(service) == ["claim", "beside", "beside", "beside"]


def test_a_lead_whose_trial_has_ended_takes_another_beside_the_others(
    service: ScriptedService, start: Start
) -> None:
    lead, other, late = leases = probes(3)
    service.leases += leases
    start("company hold@1", together=2)
    hold(service, [lead, other])
    service.verdict_on[lead.lease_id] = "stop"
    hold(service, [late])
    assert ended(service) == ids(lead)
    assert claims(service) == ["claim", "beside", "beside"]


def test_a_lane_that_got_nothing_is_called_again_when_another_gets_a_trial(
    service: ScriptedService, start: Start
) -> None:
    lead, first, short, later, last = probes(5)
    service.leases += [lead, first]
    start("company hold@1", together=3)
    hold(service, [lead, first])
    service.wait_for(lambda: claims(service) == ["claim", "beside", "beside"])
    for lease in (first, short):
        service.verdict_on[lease.lease_id] = "stop"
    # The short one gives it time to have left.
    service.give(short, later, last)
    hold(service, [later, last])
    assert ended(service) == ids(first, short)


def test_a_lost_lease_costs_its_own_trial_alone(service: ScriptedService, start: Start) -> None:
    lead, lost, other = leases = probes(3)
    service.leases += leases
    start("company hold@1", together=3)
    hold(service, leases)
    service.lost.add(lost.lease_id)
    service.wait_for(lambda: "heartbeat" in service.turned_away)
    for lease in (lead, other):
        service.verdict_on[lease.lease_id] = "stop"
    service.wait_for(lambda: ended(service) == ids(lead, other))
    assert {outcome["kind"] for outcome in service.outcomes()} == {"pruned"}
    assert {"outcome", "release"}.isdisjoint(service.turned_away), (
        "no last words of it are said"
    )


def test_leaving_puts_every_trial_aside_with_its_state(
    service: ScriptedService, start: Start
) -> None:
    leases = probes(3)
    service.leases += leases
    agent = start("company hold@1", together=3)
    hold(service, leases)
    agent.leave()
    service.wait_for(lambda: ended(service, "release") == ids(*leases))
    assert {call.body["reason"] for call in service.of("release")} == {"drain"}
    assert {call.about for call in service.of("checkpoint")} == set(ids(*leases))
    assert not service.of("outcome")


def test_what_a_claim_beside_got_is_given_back_on_leaving(
    service: ScriptedService, start: Start
) -> None:
    arrives = service.withheld["beside"] = threading.Event()
    lead, granted = probes(2)
    service.leases += [lead, granted]
    agent = start("company hold@1", together=2)
    service.wait_for(lambda: bool(service.of("beside")))
    agent.leave()
    service.wait_for(lambda: ended(service, "release") == ids(lead, granted))
    arrives.set()
    assert not service.steps(granted)


def test_what_a_claim_beside_got_whose_answer_was_lost_is_asked_for_again_and_run(
    service: ScriptedService, start: Start
) -> None:
    service.deaf_after.add("beside")
    leases = probes(2)
    service.leases += leases
    start("company hold@1", together=2)
    hold(service, leases)
    asked = [call.body["claim_id"] for call in service.of("beside")]
    assert asked == [asked[0]] * 2


def test_what_a_claim_beside_got_and_a_repeat_did_not_is_given_back(
    service: ScriptedService, start: Start
) -> None:
    service.deaf_after.add("beside")
    arrives = service.withheld["beside"] = threading.Event()
    lead, granted = probes(2)
    service.leases += [lead, granted]
    start("company hold@1", together=2)
    service.wait_for(lambda: bool(service.of("beside")))
    service.refusals["beside"] = problems.WorkerBusy()
    arrives.set()
    service.wait_for(lambda: "beside" in service.refused)
    service.refusals.clear()
    service.verdict_on[lead.lease_id] = "stop"
    service.wait_for(lambda: ended(service) == ids(lead))
    service.wait_for(lambda: ended(service, "release") == ids(granted))
    assert not service.steps(granted)


def test_lanes_that_ask_in_vain_are_no_company_for_each_other(
    service: ScriptedService, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    service.refusals["beside"] = problems.Unavailable()
    (lead,) = probes(1)
    service.leases.append(lead)
    start("company hold@1", together=2)
    service.wait_for(lambda: "beside" in service.refused)
    service.verdict_on[lead.lease_id] = "stop"
    service.wait_for(lambda: any(said.name == "worker.agent.agent" for said in caplog.records))
    service.refusals.clear()
    service.wait_for(lambda: bool(service.of("beside")))


@pytest.mark.parametrize(("cue", "error"), [("exit", "crashed"), ("kill", "killed")])
def test_a_runner_that_dies_in_company_fails_all_and_takes_none_any_more(
    service: ScriptedService, start: Start, cue: str, error: str
) -> None:
    leases = probes(3)
    again = probes(3)
    service.leases += leases
    agent = start(f"company hold@1/0 hold-then-{cue}@1/1 hold@1/2", together=3)
    hold(service, leases)
    service.verdict_on[leases[1].lease_id] = "stop"
    service.wait_for(lambda: len(service.of("outcome")) == 3)
    assert [(outcome["error"], outcome["retryable"]) for outcome in service.outcomes()] == [
        (error, True)
    ] * 3
    beside = len(service.of("beside"))
    service.give(*again)
    hold(service, again[:1])
    agent.leave()
    service.wait_for(lambda: bool(service.of("release")))
    assert len(service.of("beside")) == beside
    assert service.leases == again[1:]


def test_what_nobody_foresaw_ends_the_company_and_the_others_go_on(
    service: ScriptedService, start: Start
) -> None:
    lead, crashed, other, late = leases = probes(4)
    service.leases += leases
    start("company hold@1/0 hold-then-crash@1/1 hold@1/2 hold@1/3", together=3)
    hold(service, [lead, crashed, other])
    service.verdict_on[crashed.lease_id] = "stop"
    service.wait_for(lambda: ended(service) == ids(crashed))
    # The service knows of the outcome a moment before the slot that sent it goes on; heartbeats of the others pass it.
    beats = len(service.of("heartbeat"))
    service.wait_for(lambda: len(service.of("heartbeat")) >= beats + 8)
    for lease in (lead, other):
        service.verdict_on[lease.lease_id] = "stop"
    hold(service, [late])
    assert service.outcomes()[0]["error"] == "crashed"
    assert claims(service) == ["claim", "beside", "beside", "claim"]


def test_a_trial_that_crashes_before_any_has_joined_it_keeps_no_later_ones_apart(
    service: ScriptedService, start: Start
) -> None:
    crashed, lead, other = probes(3)
    service.leases.append(crashed)
    start("company hold-then-crash@1/0 hold@1/1 hold@1/2", together=2)
    service.wait_for(lambda: bool(service.of("beside")))
    hold(service, [crashed])
    service.verdict_on[crashed.lease_id] = "stop"
    service.wait_for(lambda: ended(service) == ids(crashed))
    assert service.outcomes()[0]["error"] == "crashed"
    service.give(lead, other)
    hold(service, [lead, other])


def test_outcomes_of_all_wait_while_the_service_is_away(
    service: ScriptedService, start: Start
) -> None:
    service.refusals["outcome"] = problems.Unavailable()
    leases = probes(3)
    service.leases += leases
    start("company", together=3)
    service.wait_for(lambda: service.refused.count("outcome") >= 3)
    service.refusals.clear()
    service.wait_for(lambda: ended(service) == ids(*leases))
    assert {outcome["value"] for outcome in service.outcomes()} == {0.6}


def test_no_lane_waits_for_anothers_last_words_nor_says_them(
    service: ScriptedService, start: Start
) -> None:
    arrives = service.withheld["outcome"] = threading.Event()
    leases = probes(6)
    service.leases += leases
    start("company", together=3)
    service.wait_for(lambda: len(service.of("outcome")) >= 6)
    said = ended(service)
    arrives.set()
    assert said == ids(*leases), "each is said once"
