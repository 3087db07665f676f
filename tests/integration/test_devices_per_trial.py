"""Trials on two devices in a real runner; here, each device is a process of the CPU."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import Running
from tests.support.leases import a_lease
from tests.support.runners import Trials
from tests.support.until import until
from tests.support.workers import a_worker, children_of
from trimtab.client import Client
from trimtab.contract.leases import Completed, Failed, Lease
from worker.pipe_messages import Began, Ended, EpochDone, SavedState, Steer
from worker.training.loop.state import FitState

LONG_S = 300.0
"""Two training processes start, one after the other's death: on a busy machine each loads torch for half a minute."""
RECIPE = {
    "epochs": 2,
    "batch_size": 64,
    "learning_rate": 0.1,
    "optimizer": "sgd",
    "precision": "float32",
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    trials = Trials(tmp_path_factory.mktemp("two"), "cpu", "--devices", "2", "--threads", "1")
    yield trials
    trials.runner.close()


def _lease(**recipe: Any) -> Lease:
    return a_lease(recipe={**RECIPE, **recipe}, devices_per_trial=2)


def _curve(trials: Trials, lease: Lease, *resume: SavedState) -> list[float]:
    """Train to the end; return the training loss and the validation loss of each epoch."""
    trials.order(lease, *resume)
    found: list[float] = []
    for news in trials.hear(lambda _: "continue"):
        if isinstance(news, EpochDone):
            metrics = news.report.metrics
            found += [metrics["train_loss"], metrics["validation_loss"]]
        if isinstance(news, Ended):
            assert isinstance(news.outcome, Completed), news.outcome
            return found
    raise AssertionError


def _others(trials: Trials) -> list[int]:
    """The processes that the runner has started."""
    found = Path(f"/proc/{trials.runner.pid}/task").glob("*/children")
    return [int(pid) for path in found for pid in path.read_text().split()]


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_trial_is_what_it_is_on_one_device(two: Trials, tmp_path: Path) -> None:
    one = Trials(tmp_path, "cpu", "--threads", "1")
    try:
        alone = _curve(one, a_lease(recipe={**RECIPE, "micro_batch_size": 32}))
    finally:
        one.runner.close()
    assert _curve(two, _lease()) == pytest.approx(alone, rel=1e-4)


def test_studies_of_one_device_and_small_heads_are_trained_on_the_first(two: Trials) -> None:
    assert _curve(two, a_lease(recipe=RECIPE))
    # All but the head is frozen.
    assert _curve(two, _lease(frozen_stages=4))
    assert _curve(two, _lease(epochs=1))


def test_a_trial_that_is_paused_within_an_epoch_goes_on_bit_by_bit(two: Trials) -> None:
    recipe = {"optimizer": "adamw", "learning_rate": 0.01, "augmentation": "flip_crop"}
    wanted = _curve(two, _lease(**recipe))
    lease = _lease(**recipe)
    two.order(lease)
    # At the first word of the trial, it has trained on one batch.
    next(news for news in two.hear(lambda _: "continue") if isinstance(news, Began))
    two.runner.send(Steer(lease_id=lease.lease_id, verdict="pause"))
    ended = next(news for news in two.hear(lambda _: "pause") if isinstance(news, Ended))
    assert ended.outcome is None
    assert ended.newest is not None
    # A paused epoch is measured once it is over: what is left is the curve from there on.
    done = FitState.load(ended.newest.path).epoch + 1
    assert _curve(two, _lease(**recipe), ended.newest) == wanted[2 * done :]


def _training(folder: Path) -> tuple[Trials, list[int]]:
    """A runner in the midst of a trial, and the processes that it has started."""
    trials = Trials(folder, "cpu", "--devices", "2", "--threads", "1")
    others = _others(trials)
    assert len(others) == 1
    trials.order(_lease(epochs=1000))
    next(news for news in trials.hear(lambda _: "continue") if isinstance(news, Began))
    return trials, others


def test_the_death_of_one_process_is_that_of_the_runner_told_as_it_was(tmp_path: Path) -> None:
    trials, [other] = _training(tmp_path)
    os.kill(other, signal.SIGKILL)
    assert trials.exit().error == "killed"
    until(lambda: _is_gone(other) and _is_gone(trials.runner.pid))
    trials.runner.close()


def test_a_process_that_hangs_is_ended_with_the_runner(tmp_path: Path) -> None:
    trials, [other] = _training(tmp_path)
    # It neither computes nor reads its lifeline.
    os.kill(other, signal.SIGSTOP)
    trials.runner.kill(Failed(error="stalled", message="no progress", retryable=True))
    assert trials.exit().error == "stalled"
    until(lambda: _is_gone(other))
    trials.runner.close()


def test_all_processes_leave_when_the_agent_lets_go(tmp_path: Path) -> None:
    trials, [other] = _training(tmp_path)
    trials.runner.close()
    until(lambda: _is_gone(other))


def test_a_study_is_trained_on_two_devices_and_goes_on_after_one_of_them_has_died(
    service: Running, client: Client, tmp_path: Path
) -> None:
    study = service.create(
        model={"backbone": "glyphnet", "weights": "none"},
        needs={"devices_per_trial": 2},
        space={"learning_rate": {"kind": "float", "low": 0.01, "high": 0.1}},
        fixed={"epochs": 12, "batch_size": 64},
        budget={"trials": 2},
        finish={"refit": True, "refits": 1},
    )
    options = ("--devices", "2", "--threads", "1")
    with a_worker(service.url, tmp_path, *options, runner="worker.runner") as worker:
        until(lambda: any(t.curve for t in client.trials(study).trials), within_s=LONG_S)
        (other,) = children_of(worker.runner_pid())
        os.kill(other, signal.SIGKILL)
        until(lambda: client.study(study).state == "done", within_s=LONG_S)
        (listed,) = client.workers().workers
        assert listed.devices == 2
    # The budget has one more training, the refit.
    (listed_trial,) = client.trials(study).trials
    trial = client.trial(study, listed_trial.number)
    assert (trial.state, trial.crashes) == ("completed", 1)
    assert trial.record is not None
    assert any("computed 32 pictures at a time" in note for note in trial.record.notes)


def test_a_study_of_two_devices_waits_for_a_worker_that_has_them(
    service: Running, client: Client, tmp_path: Path
) -> None:
    study = service.create(needs={"devices_per_trial": 2})
    with a_worker(service.url, tmp_path):
        until(lambda: client.study(study).blocked)
    assert "--devices 2" in (client.study(study).problem or "")
    assert client.trials(study).trials == ()
