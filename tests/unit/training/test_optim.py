"""Learning rates and optimizers."""

import copy
import sys
from collections.abc import Callable
from multiprocessing import get_context
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, same_tensors, tiny_backbone
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.training.model.freezing import Freezing
from worker.training.optim import optimizers, param_groups
from worker.training.optim.param_groups import Group, Rule, Update
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


def _optimizer(model: nn.Module, recipe: Recipe) -> optimizers.Optimizer:
    return optimizers.Optimizer(param_groups.of_head(model, recipe), recipe)


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
        case "muon":
            raise AssertionError("it takes matrices alone: see its own test")


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


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_muon_moves_a_convolution_as_torchs_class_moves_its_matrix_bit_by_bit(
    momentum: float,
) -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    ours = nn.Parameter(weight.to(memory_format=torch.channels_last))
    matrix = nn.Parameter(ours.detach().permute(0, 2, 3, 1).reshape(4, 27).clone())
    recipe = Recipe(optimizer="muon", momentum=momentum)
    group = Group(Rule("muon", weight_decay=0.25), {"weight": ours})
    optimizer = optimizers.Optimizer([group], recipe)
    reference = torch.optim.Muon(
        [matrix],
        momentum=momentum,
        nesterov=momentum > 0,
        weight_decay=0.25,
        adjust_lr_fn="match_rms_adamw",
    )
    for step in range(3):
        gradient = torch.randn(4, 27, generator=torch.Generator().manual_seed(step))
        matrix.grad = gradient.clone()
        ours.grad = gradient.view(4, 3, 3, 3).permute(0, 3, 1, 2).clone()
        reference.param_groups[0]["lr"] = rate = 0.1 / (step + 1)
        optimizer.step(rate)
        reference.step()
    assert torch.equal(ours.detach().permute(0, 2, 3, 1).reshape(4, 27), matrix.detach())


def _driven(rule: Rule, gradient_of: Callable[[Tensor], Tensor], rates: list[float]) -> Tensor:
    """Where a weight ends that begins at (1, -2)."""
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    optimizer = optimizers.Optimizer([Group(rule, {"weight": weight})], Recipe())
    for rate in rates:
        weight.grad = gradient_of(weight.detach())
        optimizer.step(rate)
    return weight.detach()


@pytest.mark.parametrize("update", ["sgd", "adam"])
def test_l2_sp_adds_the_gradient_of_its_penalty_where_decay_is_coupled(update: Update) -> None:
    start, slope = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 4.0]])
    rates = [0.1, 0.2, 0.05]
    pulled = _driven(Rule(update, l2_sp=0.5), lambda _: slope.clone(), rates)
    penalised = _driven(Rule(update), lambda w: slope + 0.5 * (w - start), rates)
    assert torch.equal(pulled, penalised)


@pytest.mark.parametrize("update", ["adamw", "muon"])
def test_l2_sp_shortens_the_way_from_the_beginning_where_decay_is_decoupled(
    update: Update,
) -> None:
    start, slope = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 4.0]])
    after_one = _driven(Rule(update), lambda _: slope.clone(), [0.1])
    pulled = _driven(Rule(update, l2_sp=0.5), lambda _: slope.clone(), [0.1, 0.2])
    free = _driven(Rule(update), lambda _: slope.clone(), [0.1, 0.2])
    assert torch.allclose(pulled - free, 0.2 * 0.5 * (start - after_one), atol=1e-6)


def test_a_groups_learning_rate_is_relative_to_the_schedules() -> None:
    ones = torch.ones_like
    assert torch.equal(
        _driven(Rule("sgd", rate=0.5), ones, [0.2]), _driven(Rule("sgd"), ones, [0.1])
    )


def test_gradients_longer_than_the_limit_are_shortened_together() -> None:
    recipe = Recipe(optimizer="sgd", momentum=0.0, weight_decay=0.0, clip_norm=1.0)
    ours = _Net()
    theirs = copy.deepcopy(ours)
    for model in (ours, theirs):
        _loss(model, 0).backward()
    optimizer = _optimizer(ours, recipe)
    optimizer.step(0.1)
    length = nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    torch.optim.SGD(theirs.parameters(), lr=0.1, fused=True).step()
    assert length > 1
    assert same_tensors(ours.state_dict(), theirs.state_dict())


def test_a_step_whose_scaled_gradients_overflow_is_left_out_and_the_scale_halved() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    recipe = Recipe(optimizer="sgd", momentum=0.0)

    def scaling() -> optimizers.Optimizer:
        return optimizers.Optimizer(
            [Group(Rule("sgd"), {"weight": weight})], recipe, scales_loss_on=CPU
        )

    optimizer = scaling()
    optimizer.backward(weight.sum() * 1e38)
    optimizer.step(0.1)
    assert torch.equal(weight, torch.ones(2, 2))
    assert optimizer.tensors()["loss_scale:scale"] == 2**15
    optimizer.zero_grad()
    resumed = scaling()
    resumed.restore(optimizer.tensors())
    resumed.backward(weight.sum())
    assert weight.grad is not None
    assert weight.grad.max() == 2**15
    resumed.step(0.1)
    assert torch.equal(weight, torch.full((2, 2), 0.9))
    assert resumed.tensors()["loss_scale:_growth_tracker"] == 1


def test_frozen_stages_have_no_moments_unless_they_are_thawed_later() -> None:
    model = tiny_backbone(tiny_data())

    def moved(**fields: object) -> set[str]:
        recipe = Recipe.model_validate({"epochs": 3, "frozen_stages": 2, **fields})
        optimizer = optimizers.Optimizer(
            param_groups.of_backbone(Freezing(model, recipe)), recipe
        )
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
    from worker.training.loop import fit
    from worker.training.model import backbones

    data = tiny_data()
    model = backbones.build(Model(backbone="glyphnet"), classes=data.classes, seed=0)
    recipe = Recipe(epochs=1, batch_size=8)
    list(fit.fit(fit.TrainingRequest(model, data, recipe, seed=0, device=torch.device("cpu"))))
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
