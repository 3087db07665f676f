"""A GPU whose context an error has spoilt: the trial has its kind, and a new process trains on."""

from pathlib import Path

import pytest
import torch

from tests.support.leases import a_lease
from tests.support.runners import Trials
from trimtab.contract.leases import Completed, Failed, Infeasible

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
SPOILING = """
import torch
from torch import nn

class Spoiling(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        outputs = self.fc(x.flatten(1)[:, :64])
        if x.is_cuda and self.training:
            outputs = outputs[torch.full((len(x),), 1 << 20, device=x.device)]
        return outputs

BACKBONES = {"spoiling": {"build": Spoiling, "image_size": 8}}
"""


def test_a_cuda_error_fails_its_trial_as_crashed_and_the_next_process_trains(
    tmp_path: Path,
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(SPOILING)
    model = {"backbone": "user:spoiling", "weights": "none"}
    spoilt = Trials(tmp_path, "cuda", "--backbones", str(mine))
    outcome = spoilt.run(a_lease(epochs=1, model=model)).outcome
    spoilt.runner.close()
    assert isinstance(outcome, Failed)
    assert (outcome.error, outcome.retryable) == ("crashed", True)
    fresh = Trials(tmp_path, "cuda")
    assert isinstance(fresh.run(a_lease(epochs=1)).outcome, Completed)
    fresh.runner.close()


def test_a_trial_tells_the_memory_and_the_latency_that_its_study_asks_for(
    tmp_path: Path,
) -> None:
    trials = Trials(tmp_path, "cuda")
    outcome = trials.run(a_lease(epochs=1, costs=["latency_ms", "memory_bytes"])).outcome
    trials.runner.close()
    assert isinstance(outcome, Completed)
    assert outcome.measured["latency_ms"] > 0
    assert outcome.measured["memory_bytes"] >= 4 * outcome.measured["parameters"]


def test_a_trial_whose_first_batch_takes_too_much_memory_is_trained_no_further(
    tmp_path: Path,
) -> None:
    trials = Trials(tmp_path, "cuda")
    outcome = trials.run(
        a_lease(
            epochs=1,
            costs=["memory_bytes"],
            constraints=[{"metric": "memory_bytes", "max": 1000}],
        )
    ).outcome
    trials.runner.close()
    assert isinstance(outcome, Infeasible)
    assert outcome.measured["memory_bytes"] > 1000
