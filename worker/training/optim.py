"""Optimizers and learning-rate schedules from a recipe."""

import math

import torch
from torch import nn, optim
from torch.optim import Optimizer

from trimtab.contract.recipe import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Return an optimizer over what is not frozen; biases and normalisation layers do not decay.

    SGD takes Nesterov's momentum (Sutskever et al., 2013), AdamW decouples the decay (Loshchilov and Hutter,
    2019, https://arxiv.org/abs/1711.05101). All are the fused kernels: one pass over the weights for each step.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    match recipe.optimizer:
        case "sgd":
            return optim.SGD(
                groups,
                lr=recipe.learning_rate,
                momentum=recipe.momentum,
                nesterov=recipe.momentum > 0,
                fused=True,
            )
        case "adam":
            return optim.Adam(groups, lr=recipe.learning_rate, fused=True)
        case "adamw":
            return optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def learning_rate(recipe: Recipe, *, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step.

    The schedule is a function of the step alone, so that a resumed training needs no state of it.

    Args:
        recipe: Peak, warm-up and schedule.
        step: From 0, over all epochs.
        steps_per_epoch: Steps in one epoch.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * min(1.0, (step + 1) / warmup)
    progress = (step - warmup) / (recipe.epochs * steps_per_epoch - warmup)
    match recipe.schedule:
        case "constant":
            return recipe.learning_rate
        case "linear":
            return recipe.learning_rate * (1 - progress)
        case "cosine":
            return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Use `rate` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def tensors_of(optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """Return copies of the optimizer's tensors on the CPU, named `<position of the parameter>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{position}.{name}": value.detach().cpu().clone()
        for position, values in state.items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }


def restore(optimizer: Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `tensors_of` returned.

    Raises:
        ValueError: They are those of other parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for full_name, value in tensors.items():
        position, name = full_name.split(".")
        if not 0 <= int(position) < len(parameters):
            raise ValueError("it holds the state of more parameters than are trained")
        if value.dim() and value.shape != parameters[int(position)].shape:
            raise ValueError("its parameters have other shapes than those trained")
        state.setdefault(int(position), {})[name] = value
    if state and len(state) != len(parameters):
        raise ValueError("it holds the state of fewer parameters than are trained")
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
