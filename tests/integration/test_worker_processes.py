"""Real workers, agent and runner as processes, under signals; the service and the trainer are scripted."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import scripted_service
from tests.support.leases import a_lease
from tests.support.scripted_service import ScriptedService
from tests.support.workers import WorkerProcess, a_worker, children_of, wait_until_gone
from trimtab.contract import problems


@pytest.fixture
def service() -> Generator[ScriptedService]:
    with scripted_service.running() as service:
        yield service


def steps(service: ScriptedService) -> list[int]:
    return [report["step"] for call in service.of("reports") for report in call.body["reports"]]


def test_a_runner_killed_in_mid_epoch_is_reported_long_before_the_lease_ends(
    service: ScriptedService, tmp_path: Path
) -> None:
    service.ttl_s = 3600
    service.leases.append(a_lease(ttl_s=3600))
    with a_worker(service.address, tmp_path, script="hold@2") as worker:
        service.wait_for(lambda: steps(service) == [0, 1])
        os.kill(worker.runner_pid(), signal.SIGKILL)
        service.wait_for(lambda: bool(service.of("outcome")))
        outcome = service.of("outcome")[0].body
    assert (outcome["error"], outcome["retryable"]) == ("killed", True)
    assert service.of("checkpoint")[-1].body["checkpoint"]["step"] == 1


def test_a_worker_goes_on_after_its_runner_was_killed(
    service: ScriptedService, tmp_path: Path
) -> None:
    with holding(service, tmp_path) as worker:
        os.kill(worker.runner_pid(), signal.SIGKILL)
        service.wait_for(lambda: bool(service.of("outcome")))
        service.give(a_lease(epochs=1, trial_number=1))
        service.wait_for(lambda: len(service.of("outcome")) == 2)
    assert service.of("outcome")[1].body["kind"] == "completed"


def test_a_runner_leaves_when_its_agent_is_killed(
    service: ScriptedService, tmp_path: Path
) -> None:
    service.leases.append(a_lease())
    with a_worker(service.address, tmp_path, script="hang@2") as worker:
        service.wait_for(lambda: steps(service) == [0, 1])
        runner = worker.runner_pid()
        worker.send(signal.SIGKILL)
        wait_until_gone(runner)


@contextmanager
def holding(service: ScriptedService, tmp_path: Path) -> Generator[WorkerProcess]:
    """Run a worker whose trial has reported two epochs, and holds."""
    service.leases.append(a_lease())
    with a_worker(service.address, tmp_path, script="hold@2") as worker:
        service.wait_for(lambda: steps(service) == [0, 1])
        yield worker


def test_an_agent_and_its_runner_leave_when_their_starter_lets_go(
    service: ScriptedService, tmp_path: Path
) -> None:
    with holding(service, tmp_path) as worker:
        runner = worker.runner_pid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), worker.child.lifeline)
        assert worker.wait() == 0
        wait_until_gone(runner)
    assert service.of("release")[0].body == {"reason": "drain"}


def test_a_worker_told_to_leave_stores_its_state_and_gives_the_trial_back(
    service: ScriptedService, tmp_path: Path
) -> None:
    with holding(service, tmp_path) as worker:
        runner = worker.runner_pid()
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        wait_until_gone(runner)
    recorded = service.of("checkpoint")[-1].body["checkpoint"]
    assert recorded["step"] == 1
    assert recorded["sha256"] in service.artifacts
    assert service.of("release")[0].body == {"reason": "drain"}
    assert not service.of("outcome")


def test_notices_are_heard_like_a_signal_and_never_end_it_at_once(
    service: ScriptedService, tmp_path: Path
) -> None:
    with holding(service, tmp_path) as worker:
        # A scheduler tells every process of the job, more than once, and then asks by another signal.
        os.kill(worker.runner_pid(), signal.SIGUSR1)
        for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):
            worker.send(number)
        assert worker.wait() == 0
    assert service.of("checkpoint")[-1].body["checkpoint"]["step"] == 1
    assert service.of("release")[0].body == {"reason": "drain"}


def test_a_worker_that_trains_leaves_when_the_service_asks(
    service: ScriptedService, tmp_path: Path
) -> None:
    with holding(service, tmp_path) as worker:
        service.draining = True
        assert worker.wait() == 0
    assert service.of("checkpoint")[-1].body["checkpoint"]["step"] == 1
    assert [call.body for call in service.of("release")] == [{"reason": "drain"}]


def test_a_worker_that_waits_leaves_when_the_service_asks(
    service: ScriptedService, tmp_path: Path
) -> None:
    service.refusals["claim"] = problems.WorkerDraining()
    with a_worker(service.address, tmp_path) as worker:
        assert worker.wait() == 0
    assert service.of("register")


def test_a_second_signal_ends_it_at_once(service: ScriptedService, tmp_path: Path) -> None:
    service.leases.append(a_lease())
    with a_worker(service.address, tmp_path, script="hang@2") as worker:
        service.wait_for(lambda: steps(service) == [0, 1])
        runner = worker.runner_pid()
        service.refusals["heartbeat"] = problems.Unavailable()
        worker.send(signal.SIGTERM)
        worker.send(signal.SIGINT)
        assert worker.wait() in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        wait_until_gone(runner)
    assert not service.of("release")


def test_a_signal_to_the_whole_group_is_the_agents_to_answer(
    service: ScriptedService, tmp_path: Path
) -> None:
    with holding(service, tmp_path) as worker:
        os.kill(worker.runner_pid(), signal.SIGTERM)
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert service.of("release")[0].body == {"reason": "drain"}


def test_an_idle_worker_leaves_at_once(service: ScriptedService, tmp_path: Path) -> None:
    with a_worker(service.address, tmp_path) as worker:
        service.wait_for(lambda: bool(service.of("register")))
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0


def test_a_worker_that_slept_through_its_lease_says_nothing_more_of_it(
    service: ScriptedService, tmp_path: Path
) -> None:
    lost = a_lease(ttl_s=0.4)
    service.leases.append(lost)
    with a_worker(service.address, tmp_path, script="hold@2") as worker:
        service.wait_for(lambda: steps(service) == [0, 1])
        runner = worker.runner_pid()
        worker.send(signal.SIGSTOP)
        os.kill(runner, signal.SIGSTOP)
        service.lost.add(lost.lease_id)
        service.give(a_lease(epochs=1, trial_number=1))
        os.kill(runner, signal.SIGCONT)
        worker.send(signal.SIGCONT)
        service.wait_for(lambda: bool(service.of("outcome")))
    assert set(service.turned_away) <= {"heartbeat"}
    assert service.of("outcome")[0].about != str(lost.lease_id)


def test_a_user_module_of_our_name_shadows_nothing(
    service: ScriptedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text("raise SystemExit('the wrong worker')")
    (tmp_path / "trimtab.py").write_text("raise SystemExit('the wrong trimtab')")
    monkeypatch.chdir(tmp_path)
    service.leases.append(a_lease(epochs=1))
    with a_worker(service.address, tmp_path / "cache"):
        service.wait_for(lambda: bool(service.of("outcome")), within_s=30)
    assert service.of("outcome")[0].body["kind"] == "completed"


def test_a_worker_waits_for_a_service_that_is_not_there_yet(tmp_path: Path) -> None:
    with scripted_service.running() as service:
        service.refusals["register"] = problems.Unavailable()
        service.leases.append(a_lease(epochs=1))
        with a_worker(service.address, tmp_path):
            service.wait_for(lambda: len(service.refused) >= 2)
            service.refusals.clear()
            service.wait_for(lambda: bool(service.of("outcome")))


def test_each_slot_is_a_worker_with_its_share_and_all_leave_together(
    service: ScriptedService, tmp_path: Path
) -> None:
    leases = [a_lease(trial_number=number) for number in range(2)]
    service.leases.extend(leases)
    with a_worker(service.address, tmp_path, "--slots", "2", script="hold@2") as worker:
        service.wait_for(lambda: sorted(steps(service)) == [0, 0, 1, 1])
        agents = children_of(worker.pid)
        assert len(agents) == 2
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    labels = [call.body["label"] for call in service.of("register")]
    assert sorted(labels) == ["tester-0", "tester-1"]
    # The slots share one spool: whoever leaves may deliver the other's last words too.
    released = {(call.about, call.body["reason"]) for call in service.of("release")}
    assert released == {(str(lease.lease_id), "drain") for lease in leases}


def test_the_slots_leave_when_their_starter_is_killed(
    service: ScriptedService, tmp_path: Path
) -> None:
    with a_worker(service.address, tmp_path, "--slots", "2") as worker:
        service.wait_for(lambda: len(service.of("register")) >= 2)
        agents = children_of(worker.pid)
        worker.send(signal.SIGKILL)
        for agent in agents:
            wait_until_gone(agent)
