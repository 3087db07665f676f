"""A runner stays warm for days: after many trials it holds no more memory than after a few."""

import os
from pathlib import Path

import pytest
import torch

from tests.support.leases import a_lease
from tests.support.runners import Trials
from trimtab.contract.leases import Completed

CUDA = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
)
MARGIN = 24e6
"""Bytes: what an allocator may keep for itself, and a tenth of a megabyte a trial would exceed twice over."""


def memory_bytes(trials: Trials, device: str) -> int:
    """Memory of the device that the runner holds; of a GPU, that everybody does."""
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        return total - free
    pages = Path(f"/proc/{trials.runner.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def run(trials: Trials, number: int) -> None:
    """Run one, alternately the whole network and its head alone."""
    recipe = {"epochs": 2, "batch_size": 256, "frozen_stages": 4 * (number % 2)}
    ended = trials.run(a_lease(trial_number=number, recipe=recipe))
    assert isinstance(ended.outcome, Completed)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_memory_after_many_trials_is_what_it_was_after_the_first_few(
    tmp_path: Path, device: str
) -> None:
    trials = Trials(tmp_path, device)
    try:
        for number in range(6):
            run(trials, number)
        before = memory_bytes(trials, device)
        for number in range(6, 50):
            run(trials, number)
        assert memory_bytes(trials, device) - before < MARGIN
    finally:
        trials.runner.close()
