"""What of a pretrained network is trained, and what keeps what it knows."""

from collections.abc import Iterator
from typing import cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the only common base

from trimtab.contract.recipe import Recipe
from worker.training.backbones import Backbone, parameters_of


def freeze(backbone: Backbone, recipe: Recipe) -> None:
    """Take the first `frozen_stages` stages out of training; the head is always trained."""
    for names in backbone.stages[: recipe.frozen_stages]:
        for parameter in parameters_of(backbone.network, names):
            parameter.requires_grad_(False)


def training_mode(backbone: Backbone, recipe: Recipe) -> None:
    """Set the modules for a training step.

    Frozen stages stay in evaluation mode: their batch normalisation keeps the pretrained statistics, which
    would otherwise drift though no weight moves. With one picture in a batch every batch normalisation does,
    since one picture has no variance.
    """
    backbone.train()
    frozen = [name for names in backbone.stages[: recipe.frozen_stages] for name in names]
    for name, module in _modules(backbone.network):
        held = any(name == start or name.startswith(f"{start}.") for start in frozen)
        if held or (recipe.batch_size == 1 and isinstance(module, _BatchNorm)):
            module.eval()


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return cast(Iterator[tuple[str, nn.Module]], network.named_modules())
