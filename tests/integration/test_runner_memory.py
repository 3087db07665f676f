"""A runner stays warm for days: after many trials it holds no more memory than after a few."""

import os
from collections.abc import Generator
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch

from tests.support.leases import a_lease
from worker import checkpoints, runner_process
from worker.inbox import Died, Said
from worker.pipe_messages import Ended, EpochDone, Ready, RunTrial, Steer
from worker.runner_process import RunnerProcess

CUDA = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
)
MARGIN = 24e6
"""Bytes: what an allocator may keep for itself, and a tenth of a megabyte a trial would exceed twice over."""


class Trials:
    """Runs one trial after the other in one real runner."""

    def __init__(self, cache_dir: Path, device: str) -> None:
        self._cache_dir, self._device = cache_dir, device
        self._news: SimpleQueue[Said | Died] = SimpleQueue()
        arguments = ("--device", device, "--cache-dir", str(cache_dir))
        self.runner = RunnerProcess(
            runner_process.command("worker.runner", arguments), self._news.put
        )
        assert isinstance(self._next().news, Ready)

    def run(self, number: int) -> None:
        """Run one, alternately the whole network and its head alone, and forget its checkpoints."""
        recipe = {"epochs": 2, "batch_size": 256, "frozen_stages": 4 * (number % 2)}
        lease = a_lease(trial_number=number, recipe=recipe)
        folder = checkpoints.folder_of(self._cache_dir / "checkpoints", lease)
        self.runner.send(RunTrial(lease=lease, folder=folder))
        while not isinstance(news := self._next().news, Ended):
            if isinstance(news, EpochDone):
                self.runner.send(
                    Steer(lease_id=lease.lease_id, verdict="continue", step=news.report.step)
                )
        assert news.outcome is not None
        assert news.outcome.kind == "completed"
        checkpoints.discard_trial(folder)

    def memory_bytes(self) -> int:
        """Memory of the device that the runner holds; of a GPU, that everybody does."""
        if self._device == "cuda":
            free, total = torch.cuda.mem_get_info()
            return total - free
        pages = Path(f"/proc/{self.runner.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def _next(self) -> Said:
        said = self._news.get(timeout=120)
        assert isinstance(said, Said), said
        return said


@pytest.fixture(params=["cpu", CUDA])
def trials(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Trials]:
    trials = Trials(tmp_path, request.param)
    yield trials
    trials.runner.close()


@pytest.mark.slow
def test_memory_after_many_trials_is_what_it_was_after_the_first_few(trials: Trials) -> None:
    for number in range(6):
        trials.run(number)
    before = trials.memory_bytes()
    for number in range(6, 50):
        trials.run(number)
    assert trials.memory_bytes() - before < MARGIN
