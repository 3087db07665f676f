"""Learning rates and optimizers."""

import copy
import itertools
import sys
from multiprocessing import get_context
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.tiny import same_tensors
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.training import optim, schedules
from worker.training.seeding import seeded

SPE = 10


def _rates(recipe: Recipe) -> list[float]:
    return [
        schedules.learning_rate(recipe, step=step, steps_per_epoch=SPE)
        for step in range(recipe.epochs * SPE)
    ]


def test_a_constant_schedule_keeps_the_peak_after_the_warm_up() -> None:
    rates = _rates(Recipe(epochs=3, learning_rate=0.5, schedule="constant", warmup_epochs=1))
    assert rates[:10] == pytest.approx([0.05 * step for step in range(1, 11)])
    assert set(rates[10:]) == {0.5}


def test_a_linear_schedule_falls_by_equal_steps_to_nothing() -> None:
    rates = _rates(Recipe(epochs=2, learning_rate=1.0, schedule="linear"))
    falls = {round(a - b, 12) for a, b in itertools.pairwise([*rates, 0.0])}
    assert rates[0] == 1.0
    assert falls == {0.05}


def test_a_cosine_schedule_is_that_of_torch() -> None:
    recipe = Recipe(epochs=3, learning_rate=0.1, schedule="cosine")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3 * SPE)
    theirs: list[float] = []
    for _ in range(3 * SPE):
        theirs += [float(rate) for rate in schedule.get_last_lr()]
        optimizer.step()
        schedule.step()
    assert _rates(recipe) == pytest.approx(theirs)


@given(
    st.integers(1, 30),
    st.floats(0, 40),
    st.sampled_from(["constant", "linear", "cosine"]),
)
def test_every_learning_rate_is_above_zero_and_at_most_the_peak(
    epochs: int, warmup: float, schedule: str
) -> None:
    recipe = Recipe.model_validate(
        {"epochs": epochs, "warmup_epochs": warmup, "schedule": schedule, "learning_rate": 0.3}
    )
    rates = _rates(recipe)
    assert all(0 < rate <= 0.3 for rate in rates)
    rising = [b >= a for a, b in itertools.pairwise(rates[: int(warmup * SPE)])]
    assert all(rising)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 2)
        self.idle = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc(self.norm(self.conv(x)).mean(dim=(2, 3))))


def _loss(model: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return cast(Tensor, model(torch.randn(4, 1, 5, 5, generator=generator)).square().sum())


def _theirs(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1]},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    decay = recipe.weight_decay
    match recipe.optimizer:
        case "sgd":
            momentum = recipe.momentum
            return torch.optim.SGD(
                groups, momentum=momentum, nesterov=momentum > 0, weight_decay=decay, fused=True
            )
        case "adam":
            return torch.optim.Adam(groups, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, weight_decay=decay, fused=True)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_an_optimizer_moves_as_torchs_class_of_its_name_bit_by_bit(
    name: str, momentum: float
) -> None:
    recipe = Recipe.model_validate(
        {"optimizer": name, "momentum": momentum, "weight_decay": 0.25}
    )
    with seeded(0):
        ours = _Net()
    theirs = copy.deepcopy(ours)
    optimizer, reference = optim.Optimizer(ours, recipe), _theirs(theirs, recipe)
    for step in range(5):
        rate = 0.1 / (step + 1)
        for group in reference.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        _loss(ours, step).backward()
        optimizer.step(rate)
        reference.zero_grad()
        _loss(theirs, step).backward()
        reference.step()
    assert same_tensors(ours.state_dict(), theirs.state_dict())


def test_frozen_parameters_have_no_moments() -> None:
    model = _Net()
    model.conv.requires_grad_(False)
    names = {name.rsplit(":", 1)[0] for name in optim.Optimizer(model, Recipe()).tensors()}
    assert names == {
        name for name, _ in model.named_parameters() if not name.startswith("conv.")
    }


def test_moments_of_other_parameters_are_refused() -> None:
    optimizer = optim.Optimizer(_Net(), Recipe())
    moments = optimizer.tensors()
    with pytest.raises(ValueError, match="other parameters"):
        optimizer.restore({name: value for name, value in moments.items() if "fc" not in name})
    with pytest.raises(ValueError, match="other shapes"):
        optimizer.restore(dict.fromkeys(moments, torch.zeros(9)))


def test_training_does_without_torchs_compiler_torchvision_and_scikit_learn() -> None:
    """In a process of its own: each costs seconds, and a demo on two cores has few."""
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(_train_and_look) == []


def _train_and_look() -> list[str]:
    from tests.support.pictures import tiny_data
    from worker.training import backbones, fit

    data = tiny_data()
    model = backbones.build(Model(backbone="glyphnet"), classes=data.classes, seed=0)
    recipe = Recipe(epochs=1, batch_size=8)
    list(fit.fit(model, data, recipe, seed=0, device=torch.device("cpu")))
    return [
        name
        for name in (
            "torch._dynamo",
            "torch._inductor",
            "sympy",
            "torchvision",
            "sklearn",
            "scipy",
        )
        if name in sys.modules
    ]
