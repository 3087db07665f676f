"""Real workers on the real service and Postgres; only the trainer is scripted."""

import os
import signal
from pathlib import Path

from tests.support.app import Running
from tests.support.until import until
from tests.support.workers import a_worker
from trimtab.client import Client
from trimtab.contract.trials import Trial

STEERED_TTL_S = 12.0
"""Short enough that a heartbeat, at a quarter of it, soon brings word; long enough for a machine that is busy."""


def a_study(service: Running, trials: int = 1, **changes: object) -> str:
    budget = {"trials": trials}
    return service.create(**({"budget": budget, "fixed": {"epochs": 5}} | changes))


def epochs_of(client: Client, study: str, number: int = 0) -> list[int]:
    trials = client.trials(study).trials
    return [point.step for trial in trials if trial.number == number for point in trial.curve]


def states(client: Client, study: str) -> list[str]:
    return [trial.state for trial in client.trials(study).trials]


def outcomes(trial: Trial) -> list[str | None]:
    return [attempt.outcome for attempt in trial.attempts]


def test_two_workers_finish_a_study_to_its_final_evaluation(
    service: Running, client: Client, tmp_path: Path
) -> None:
    study = a_study(service, trials=6)
    with a_worker(service.url, tmp_path / "one"), a_worker(service.url, tmp_path / "two"):
        until(lambda: client.study(study).state == "done")
    assert states(client, study) == ["completed"] * 6
    best = client.best(study)
    assert best.trial.validation_accuracy == 0.9


def test_a_trial_of_a_worker_told_to_leave_goes_on_elsewhere_where_it_was(
    service: Running, client: Client, tmp_path: Path
) -> None:
    study = a_study(service)
    with a_worker(service.url, tmp_path / "one", script="hold@3") as one:
        until(lambda: epochs_of(client, study) == [0, 1, 2])
        one.send(signal.SIGTERM)
        assert one.wait() == 0
    assert states(client, study) == ["queued"]
    with a_worker(service.url, tmp_path / "two"):
        until(lambda: client.study(study).state == "done")
    trial = client.trial(study, 0)
    assert outcomes(trial) == ["drained", "completed"]
    assert (trial.crashes, trial.value) == (0, 0.9)


def test_workers_that_are_drained_leave_and_what_they_had_goes_on_elsewhere(
    service: Running, client: Client, tmp_path: Path
) -> None:
    study = a_study(service)
    with a_worker(service.url, tmp_path / "busy", script="hold@3") as busy:
        until(lambda: epochs_of(client, study) == [0, 1, 2])
        with a_worker(service.url, tmp_path / "idle") as idle:
            until(lambda: len(client.workers().workers) == 2)
            for worker in client.workers().workers:
                assert client.drain_worker(worker.worker_id).state == "draining"
            assert (busy.wait(), idle.wait()) == (0, 0)
    assert states(client, study) == ["queued"]
    assert (client.demand().waiting, client.demand().leased) == (1, 0)
    with a_worker(service.url, tmp_path / "two"):
        until(lambda: client.study(study).state == "done")
    assert outcomes(client.trial(study, 0)) == ["drained", "completed"]


def test_trials_that_one_worker_runs_at_a_time_go_on_elsewhere_when_it_leaves(
    service: Running, client: Client, tmp_path: Path
) -> None:
    study = a_study(service, trials=3)
    with a_worker(service.url, tmp_path / "one", script="company hold@3") as one:
        until(lambda: all(epochs_of(client, study, number) == [0, 1, 2] for number in range(3)))
        assert [worker.running for worker in client.workers().workers] == [3]
        one.send(signal.SIGTERM)
        assert one.wait() == 0
    assert states(client, study) == ["queued"] * 3
    with a_worker(service.url, tmp_path / "two", script="company"):
        until(lambda: client.study(study).state == "done")
    for number in range(3):
        trial = client.trial(study, number)
        assert outcomes(trial) == ["drained", "completed"]
        assert (trial.crashes, trial.value) == (0, 0.9)


def test_a_trial_whose_runner_is_killed_is_tried_again_and_settled_once(
    service: Running, client: Client, tmp_path: Path
) -> None:
    study = a_study(service)
    with a_worker(service.url, tmp_path / "one", script="hold@3") as worker:
        until(lambda: epochs_of(client, study) == [0, 1, 2])
        os.kill(worker.runner_pid(), signal.SIGKILL)
        until(lambda: client.study(study).state == "done")
    trial = client.trial(study, 0)
    assert outcomes(trial) == ["failed", "completed"]
    assert (trial.crashes, trial.value) == (1, 0.9)


def test_a_paused_study_lets_go_of_its_worker_and_goes_on_where_it_was(
    service: Running, client: Client, tmp_path: Path
) -> None:
    study = a_study(service, lease_ttl_s=STEERED_TTL_S)
    with a_worker(service.url, tmp_path / "one", script="hold@3"):
        until(lambda: epochs_of(client, study) == [0, 1, 2])
        client.pause(study)
        until(lambda: states(client, study) == ["paused"])
        client.resume(study)
        until(lambda: client.study(study).state == "done")
    trial = client.trial(study, 0)
    assert outcomes(trial) == ["paused", "completed"]
    assert trial.value == 0.9


def test_a_cancelled_study_lets_go_of_its_worker(
    service: Running, client: Client, tmp_path: Path
) -> None:
    cancelled = a_study(service, lease_ttl_s=STEERED_TTL_S)
    with a_worker(service.url, tmp_path / "one", script="hold@3"):
        until(lambda: epochs_of(client, cancelled) == [0, 1, 2])
        client.cancel(cancelled)
        until(lambda: states(client, cancelled) == ["cancelled"])
