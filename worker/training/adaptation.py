"""What of a pretrained network is trained, and what keeps what it knows."""

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the only common base

from trimtab.contract.recipe import Recipe
from worker.training.backbones import Backbone, is_within, parameters_of


def freeze(backbone: Backbone, recipe: Recipe) -> None:
    """Take the first `frozen_stages` stages out of training; the head is always trained."""
    frozen = frozen_modules(backbone, recipe.frozen_stages)
    for parameter in parameters_of(backbone.network, frozen):
        parameter.requires_grad_(False)


def frozen_modules(backbone: Backbone, frozen_stages: int) -> tuple[str, ...]:
    """Return the names of the modules and lone parameters of the first `frozen_stages` stages."""
    return tuple(name for names in backbone.stages[:frozen_stages] for name in names)


def state_of(backbone: Backbone, frozen_stages: int, *, frozen: bool) -> dict[str, Tensor]:
    """Return the part of the network's state dict that is frozen, or the part that training moves."""
    modules = frozen_modules(backbone, frozen_stages)
    state = cast(dict[str, Tensor], backbone.network.state_dict())
    return {name: value for name, value in state.items() if is_within(name, modules) == frozen}


def training_mode(backbone: Backbone, recipe: Recipe) -> None:
    """Set the modules for a training step.

    Frozen stages stay in evaluation mode: their batch normalisation keeps the pretrained statistics, which
    would otherwise drift though no weight moves. With one picture in a batch every batch normalisation does,
    since one picture has no variance.
    """
    backbone.train()
    frozen = frozen_modules(backbone, recipe.frozen_stages)
    for name, module in _modules(backbone.network):
        if is_within(name, frozen) or (_one_by_one(recipe) and isinstance(module, _BatchNorm)):
            module.eval()


def moving_statistics(backbone: Backbone, recipe: Recipe) -> list[_BatchNorm]:
    """Return the batch normalisation whose statistics training moves; the model is left in training mode."""
    training_mode(backbone, recipe)
    return [
        module
        for module in backbone.modules()
        if isinstance(module, _BatchNorm) and module.training
    ]


def _one_by_one(recipe: Recipe) -> bool:
    return 1 in (recipe.batch_size, recipe.micro_batch_size)


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return cast(Iterator[tuple[str, nn.Module]], network.named_modules())
