"""Learning rates and optimizers."""

import copy
import sys
from multiprocessing import get_context
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from tests.support.pictures import tiny_data
from tests.support.tiny import same_tensors, tiny_backbone
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.training import groups, optim
from worker.training.seeding import seeded


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


def _optimizer(model: nn.Module, recipe: Recipe) -> optim.Optimizer:
    return optim.Optimizer(groups.of_head(model, recipe), recipe)


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
    optimizer, reference = _optimizer(ours, recipe), _theirs(theirs, recipe)
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


def test_frozen_stages_have_no_moments_unless_they_are_thawed_later() -> None:
    model = tiny_backbone(tiny_data())

    def moved(**fields: object) -> set[str]:
        recipe = Recipe.model_validate({"epochs": 3, "frozen_stages": 2, **fields})
        optimizer = optim.Optimizer(groups.of_backbone(model, recipe), recipe)
        return {name.split(".")[0] for name in optimizer.tensors()}

    assert moved() == {"fc"}
    assert moved(unfreeze_every=2) == {"conv2", "bn2", "fc"}
    assert moved(unfreeze_every=1) == {"conv", "bn", "conv2", "bn2", "fc"}


def test_moments_of_other_parameters_are_refused() -> None:
    optimizer = _optimizer(_Net(), Recipe())
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
