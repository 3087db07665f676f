"""When a trial is introduced to the service: once its first batch has been trained on, and never of one that could not be."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from tests.support.leases import a_lease
from tests.support.pictures import folder_task, write_classes
from trimtab.contract.leases import Failed, Infeasible
from worker.data.roots import Roots
from worker.pipe_messages import Ended, EpochDone, Progress, RunTrial
from worker.runner import runner
from worker.runner.memory_watch import MemoryWatch
from worker.runner.progress import ProgressReporter
from worker.runner.resources import Resources
from worker.runner.thread_counts import ThreadCounts
from worker.training.features.feature_cache import FeatureCache
from worker.training.loop import step
from worker.training.model.backbone_cache import BackboneCache
from worker.training.model.user_backbones import OwnBackbones


def lived(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    fails_at: int | None = None,
    constraints: Sequence[Mapping[str, Any]] = (),
) -> list[Any]:
    """What happens in a real trial of one epoch of three batches: each batch trained on, and what is said of it."""
    happened: list[Any] = []
    train = step.take_step

    def batch(*given: Any) -> Any:
        if happened.count("batch") == fails_at:
            raise ValueError("the backbone cannot")
        happened.append("batch")
        return train(*given)

    monkeypatch.setattr(step, "take_step", batch)
    channel = Mock(say=happened.append)
    channel.verdict.return_value = channel.verdict_between_epochs.return_value = "continue"
    channel.waiting.return_value = []
    own = OwnBackbones.gather([])
    resources = Resources(
        channel,
        torch.device("cpu"),
        2**30,
        folder / "data",
        FeatureCache(folder / "features", limit_bytes=2**20),
        own,
        BackboneCache(own),
        ThreadCounts(1, 1),
        Roots(),
    )
    write_classes(folder / "pets", {"cat": 10, "dog": 10})
    lease = a_lease(
        task=folder_task(folder / "pets").model_dump(mode="json"),
        recipe={"epochs": 1, "batch_size": 4, "learning_rate": 0.01},
        constraints=constraints,
    )
    runner.run(resources, RunTrial(lease=lease, folder=folder / "checkpoints"))
    return happened


def test_a_trial_is_introduced_when_its_first_batch_has_been_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = lived(tmp_path, monkeypatch)
    assert kinds(happened) == ["batch", "Began", "batch", "batch", "EpochDone", "Ended"]


def test_a_trial_whose_first_batch_fails_is_not_introduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, *others = reversed(lived(tmp_path, monkeypatch, fails_at=0))
    assert all(isinstance(one, Progress) for one in others)
    assert isinstance(ended, Ended)
    assert isinstance(ended.outcome, Failed)
    assert "the backbone cannot" in ended.outcome.message


def kinds(happened: Sequence[Any]) -> list[str]:
    found = [one if one == "batch" else type(one).__name__ for one in happened]
    return [kind for kind in found if kind != "Progress"]


def test_a_trial_whose_model_is_far_too_slow_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = lived(tmp_path, monkeypatch, constraints=[{"metric": "latency_ms", "max": 1e-6}])
    assert kinds(happened) == ["Ended"]
    outcome = happened[-1].outcome
    assert isinstance(outcome, Infeasible)
    assert outcome.measured["latency_ms"] > 1e-6


def test_a_trial_whose_first_batch_takes_too_much_memory_is_trained_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stand-in for a device that tells its memory.
    monkeypatch.setattr(MemoryWatch, "peak_bytes", 2_000)
    happened = lived(
        tmp_path, monkeypatch, constraints=[{"metric": "memory_bytes", "max": 1_000}]
    )
    assert kinds(happened) == ["batch", "Began", "Ended"]
    outcome = happened[-1].outcome
    assert isinstance(outcome, Infeasible)
    assert outcome.measured["memory_bytes"] == 2_000


def test_looking_at_the_latency_first_changes_no_bit_of_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = [{"metric": "latency_ms", "max": 1e6}]
    plain = lived(tmp_path / "plain", monkeypatch)
    bounded = lived(tmp_path / "bounded", monkeypatch, constraints=bounds)
    (one, other) = (
        next(each.report.metrics for each in happened if isinstance(each, EpochDone))
        for happened in (plain, bounded)
    )
    assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_batches_before_training_do_not_count() -> None:
    channel = Mock()
    channel.verdict_between_epochs.return_value = "continue"
    progress, told = ProgressReporter(channel, a_lease().lease_id), list[int]()
    progress.batch()
    progress.after_first_batch(lambda: told.append(1))
    progress.batch()
    assert told == []
    for _ in range(3):
        progress.batch()
    assert told == [1]
