"""What of a pretrained network is trained, and what keeps what it knows."""

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the only common base

from trimtab.contract.recipe import Recipe
from worker.training.model import lora
from worker.training.model.backbones import Backbone, is_within
from worker.training.model.lora import LowRank


def frozen_at(backbone: Backbone, recipe: Recipe, epoch: int) -> int:
    """Return how many stages are frozen in an epoch.

    Gradual unfreezing thaws one more every so many epochs, the last one first (Howard and Ruder, 2018,
    https://arxiv.org/abs/1801.06146, section 3.3).
    """
    frozen = min(recipe.frozen_stages, len(backbone.stages))
    thawed = epoch // recipe.unfreeze_every if recipe.unfreeze_every else 0
    return max(0, frozen - thawed)


def still_stages(backbone: Backbone, recipe: Recipe) -> int:
    """Return how many stages, counted from the input, no epoch trains."""
    return frozen_at(backbone, recipe, recipe.epochs - 1)


def frozen_modules(backbone: Backbone, frozen_stages: int) -> tuple[str, ...]:
    """Return the names of the modules and lone parameters of the first `frozen_stages` stages."""
    return tuple(name for names in backbone.stages[:frozen_stages] for name in names)


def state_of(backbone: Backbone, frozen_stages: int, *, frozen: bool) -> dict[str, Tensor]:
    """Return the part of the network's state dict that is frozen, or the part that training moves."""
    modules = frozen_modules(backbone, frozen_stages)
    state = cast(dict[str, Tensor], backbone.network.state_dict())
    return {name: value for name, value in state.items() if is_within(name, modules) == frozen}


def moving_state(
    backbone: Backbone, recipe: Recipe, low_rank: LowRank | None
) -> dict[str, Tensor]:
    """Return the part of the state that some epoch moves: with LoRA, the factors in place of the stages' weights.

    Where averages are measured, the weights stand beside the factors: an average of products is no such product.
    """
    state = state_of(backbone, still_stages(backbone, recipe), frozen=False)
    if low_rank is None:
        return state
    factors = {name: factor.detach() for name, factor in low_rank.factors.items()}
    if recipe.ema_decay or recipe.swa_epochs or recipe.adaptation_grid:
        return state | factors
    staged = frozen_modules(backbone, len(backbone.stages))
    made = {name for name, _ in backbone.network.named_parameters() if is_within(name, staged)}
    return {name: value for name, value in state.items() if name not in made} | factors


def low_rank_of(backbone: Backbone, recipe: Recipe, seed: int) -> LowRank | None:
    """Let the weights of a backbone, pretrained as yet, move by LoRA where the recipe asks for it."""
    if not recipe.lora_rank:
        return None
    thawed = backbone.stages[still_stages(backbone, recipe) :]
    modules = tuple(name for names in thawed for name in names)
    movable = _movable(backbone, recipe).items()
    return LowRank({name: p for name, p in movable if is_within(name, modules)}, recipe, seed)


def freeze(backbone: Backbone, recipe: Recipe, epoch: int = 0) -> None:
    """Choose what an epoch trains: the head, and of each thawed stage everything, or what LoRA reaches."""
    frozen = frozen_modules(backbone, frozen_at(backbone, recipe, epoch))
    movable = _movable(backbone, recipe)
    for name, parameter in backbone.network.named_parameters():
        parameter.requires_grad_(name in movable and not is_within(name, frozen))


def _movable(backbone: Backbone, recipe: Recipe) -> dict[str, nn.Parameter]:
    """All parameters, or with LoRA those of the head and of the stages the weights that it reaches."""
    own = dict(backbone.network.named_parameters())
    if not recipe.lora_rank:
        return own
    staged = frozen_modules(backbone, len(backbone.stages))
    reached = set(lora.targets(backbone.network))
    return {
        name: p for name, p in own.items() if name in reached or not is_within(name, staged)
    }


def training_mode(backbone: Backbone, recipe: Recipe, epoch: int = 0) -> None:
    """Set the modules for the training steps of an epoch.

    Frozen stages stay in evaluation mode: their batch normalisation keeps the pretrained statistics, which
    would otherwise drift though no weight moves. Where the recipe says so, every batch normalisation does; and
    with one picture in a batch, since one picture has no variance.
    """
    backbone.training = True
    frozen = frozen_modules(backbone, frozen_at(backbone, recipe, epoch))
    keeps_statistics = recipe.batch_norm == "frozen" or 1 in (
        recipe.batch_size,
        recipe.micro_batch_size,
    )
    for name, module in _modules(backbone.network):
        still = is_within(name, frozen) or (keeps_statistics and isinstance(module, _BatchNorm))
        # Asked first: a head alone trains for microseconds, and setting the flags of a whole network takes as long.
        if module.training is still:
            module.training = not still


def moving_statistics(backbone: Backbone, recipe: Recipe, epoch: int = 0) -> list[_BatchNorm]:
    """Return the batch normalisation whose statistics an epoch moves; the model is left in its training mode."""
    training_mode(backbone, recipe, epoch)
    return [
        module
        for module in backbone.modules()
        if isinstance(module, _BatchNorm) and module.training
    ]


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return cast(Iterator[tuple[str, nn.Module]], network.named_modules())
