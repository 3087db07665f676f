"""The learning rate of every step, beside torch's schedulers."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from trimtab.contract.recipe import Recipe
from worker.training.optim import schedules

SPE = 10


def _rates(recipe: Recipe) -> list[float]:
    return [
        schedules.learning_rate(recipe, step=step, steps_per_epoch=SPE)
        for step in range(recipe.epochs * SPE)
    ]


def _torchs(scheduler: LRScheduler, steps: int) -> list[float]:
    rates: list[float] = []
    for _ in range(steps):
        rates += [float(rate) for rate in scheduler.get_last_lr()]
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def _sgd() -> SGD:
    return SGD([nn.Parameter(torch.zeros(1))], lr=0.5)


def _after_warm_up(recipe: Recipe, optimizer: SGD, warmup: int) -> LRScheduler:
    rest = recipe.epochs * SPE - warmup
    match recipe.schedule:
        case "constant":
            return ConstantLR(optimizer, factor=1.0)
        case "linear":
            return LinearLR(optimizer, 1.0, 0.0, total_iters=rest)
        case "cosine":
            return CosineAnnealingLR(optimizer, T_max=rest)
        case "step":
            return StepLR(optimizer, recipe.step_epochs * SPE, gamma=recipe.step_factor)
        case "one_cycle":
            raise AssertionError("it has its own warm-up")


@pytest.mark.parametrize("warmup_epochs", [0.0, 0.5, 1.0, 2.7])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "step"])
def test_a_schedule_is_that_of_torch_after_a_linear_warm_up(
    schedule: str, warmup_epochs: float
) -> None:
    recipe = Recipe.model_validate(
        {
            "epochs": 8,
            "learning_rate": 0.5,
            "schedule": schedule,
            "warmup_epochs": warmup_epochs,
            "step_epochs": 2,
            "step_factor": 0.3,
        }
    )
    optimizer, warmup = _sgd(), round(warmup_epochs * SPE)
    scheduler = _after_warm_up(recipe, optimizer, warmup)
    if warmup:
        rise = LinearLR(optimizer, 1 / warmup, total_iters=max(1, warmup - 1))
        scheduler = SequentialLR(optimizer, [rise, scheduler], milestones=[warmup])
    assert _rates(recipe) == pytest.approx(_torchs(scheduler, 8 * SPE))


@pytest.mark.parametrize("warmup_epochs", [0.0, 0.5, 1.25, 3.0, 7.99])
def test_one_cycle_is_that_of_torch_and_ends_at_a_ten_thousandth_of_the_peak(
    warmup_epochs: float,
) -> None:
    recipe = Recipe(
        epochs=8, learning_rate=0.5, schedule="one_cycle", warmup_epochs=warmup_epochs
    )
    theirs = OneCycleLR(
        _sgd(),
        max_lr=0.5,
        total_steps=8 * SPE,
        pct_start=warmup_epochs / 8 or 0.3,
        div_factor=25,
        final_div_factor=400,
        cycle_momentum=False,
    )
    rates = _rates(recipe)
    assert rates == pytest.approx(_torchs(theirs, 8 * SPE))
    assert (rates[0], rates[-1]) == pytest.approx((0.02, 0.00005))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one_cycle", "step"])
@pytest.mark.parametrize(
    ("epochs", "share", "warmup"), [(0.0, 0.25, 2.0), (1.0, 0.25, 2.0), (3.0, 0.25, 3.0)]
)
def test_the_longer_warm_up_of_epochs_and_of_a_share_of_all_counts(
    schedule: str, epochs: float, share: float, warmup: float
) -> None:
    recipe = {"epochs": 8, "schedule": schedule, "step_epochs": 2}
    both = {"warmup_epochs": epochs, "warmup_share": share}
    rates = _rates(Recipe.model_validate(recipe | both))
    assert rates == _rates(Recipe.model_validate(recipe | {"warmup_epochs": warmup}))
    assert rates.index(max(rates)) == warmup * SPE - 1


@given(
    st.integers(1, 30),
    st.floats(0, 40),
    st.sampled_from(["constant", "linear", "cosine", "one_cycle", "step"]),
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
