"""What a model costs, measured on the model itself."""

import time
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from tests.support.leases import a_lease
from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.objectives import Constraint
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.runner.costs import (
    TOO_SLOW,
    Violates,
    refuse_large,
    refuse_slow,
    refuse_untold,
    refuse_violating,
)
from worker.training.errors import MemoryUntold
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.model import backbones, costs
from worker.training.model.heads import Head

SAMPLE = torch.zeros(1, 2)
SLOW_S = 0.05


def test_the_parameters_are_those_of_the_network_with_its_head_whether_frozen_or_not() -> None:
    plain = Model(backbone="glyphnet", weights="none")
    model = backbones.build(plain, classes=("a", "b", "c"), seed=0)
    before = costs.parameters(model)
    inputs = cast(nn.Linear, model.head).in_features
    model.put_head(Head(width=7, activation="relu"))
    model.requires_grad_(False)
    assert costs.parameters(model) - before == 7 * (inputs + 1) + 3 * 8 - 3 * (inputs + 1)
    statistics = sum(value.numel() for value in model.network.buffers())
    assert statistics > 0
    assert costs.parameters(model) == _total(model.network) - statistics


def test_a_model_that_is_too_large_is_refused_before_it_is_trained() -> None:
    model = backbones.build(
        Model(backbone="glyphnet", weights="none"), classes=("a", "b"), seed=0
    )
    count = costs.parameters(model)
    late = Constraint(metric="latency_ms", max=1e-9)
    refuse_violating(model, [Constraint(metric="parameters", max=count), late])
    with pytest.raises(Violates) as refused:
        refuse_violating(model, [Constraint(metric="parameters", max=count - 1), late])
    assert refused.value.measured == {"parameters": count}


def test_a_model_whose_fastest_pass_is_clearly_too_slow_is_refused_before_it_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def passes_ms(*_: Any, **__: Any) -> list[float]:
        return [30.0, 12.5, 20.0]

    monkeypatch.setattr(costs, "passes_ms", passes_ms)
    data = tiny_data()
    request = TrainingRequest(tiny_backbone(data), data, Recipe(), seed=0, device=CPU)
    training = begin(request)
    refuse_slow(data, training, [Constraint(metric="latency_ms", max=12.5 / TOO_SLOW)])
    refuse_slow(data, training, [Constraint(metric="latency_ms", min=100.0)])
    with pytest.raises(Violates) as refused:
        refuse_slow(data, training, [Constraint(metric="latency_ms", max=12.4 / TOO_SLOW)])
    assert refused.value.measured["latency_ms"] == 20.0


def test_a_training_whose_first_batch_takes_too_much_memory_is_refused() -> None:
    model = backbones.build(
        Model(backbone="glyphnet", weights="none"), classes=("a", "b"), seed=0
    )
    bound = [Constraint(metric="memory_bytes", max=1000)]
    refuse_large(1000, model, bound)
    refuse_large(None, model, bound)
    refuse_large(1001, model, [Constraint(metric="memory_bytes", min=2000)])
    with pytest.raises(Violates) as refused:
        refuse_large(1001, model, bound)
    assert refused.value.measured["memory_bytes"] == 1001


def _total(network: nn.Module) -> int:
    return sum(value.numel() for value in network.state_dict().values())


class SlowAtFirst(nn.Module):
    """Takes long for as many passes as the warm-up has."""

    def __init__(self, slow: int) -> None:
        super().__init__()
        self.slow, self.passes = slow, 0

    def forward(self, stored: Tensor) -> Tensor:
        """Return what came, late."""
        self.passes += 1
        if self.passes <= self.slow:
            time.sleep(SLOW_S)
        return stored


def test_the_latency_is_the_median_of_the_passes_after_the_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(costs, "ENOUGH_S", 0.0)
    model: Any = SlowAtFirst(costs.WARM_UP + costs.FEWEST // 2)
    found = costs.latency_ms(model, SAMPLE, precision="float32")
    assert model.passes == costs.WARM_UP + costs.FEWEST
    assert 0 < found < 1000 * SLOW_S
    assert not model.training


def test_a_study_that_bounds_memory_is_not_for_a_device_that_does_not_tell_it() -> None:
    with pytest.raises(MemoryUntold, match="start a worker on a CUDA device"):
        refuse_untold(a_lease(costs=["memory_bytes"]), torch.device("cpu"))
    refuse_untold(a_lease(costs=["latency_ms"]), torch.device("cpu"))
    refuse_untold(a_lease(costs=["memory_bytes"]), torch.device("cuda"))
