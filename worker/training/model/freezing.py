"""Freezing: which part of a pretrained network each epoch trains, and which part keeps its weights."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the only common base

from trimtab.contract.recipe import Recipe
from worker.training.errors import LayersShared
from worker.training.model import lora
from worker.training.model.backbones import Backbone, is_within
from worker.training.model.lora import LowRank
from worker.training.model.text_network import TextNetwork
from worker.training.seeding import derive, seeded


@dataclass(frozen=True)
class Freezing:
    """The part of a network that each epoch of a training moves, and the part that it leaves as it was.

    Made once where a training or an evaluation begins, and handed on in place of the network and the recipe: whoever
    asks is told the same.

    Attributes:
        model: The network. Its head has the shape that the training gives it.
        recipe: The hyperparameters that it is trained with.
    """

    model: Backbone = field(repr=False)
    recipe: Recipe

    @cached_property
    def still(self) -> int:
        """The number of stages, counted from the input, that no epoch trains."""
        # Stages only thaw: what the last epoch freezes, all did.
        return self.stages(self.recipe.epochs - 1)

    def stages(self, epoch: int) -> int:
        """Return how many stages, counted from the input, are frozen in an epoch.

        Gradual unfreezing thaws one more every `unfreeze_every` epochs, the last one first (Howard and Ruder, 2018,
        https://arxiv.org/abs/1801.06146, section 3.3).
        """
        every = self.recipe.unfreeze_every
        frozen = min(self.recipe.frozen_stages, len(self.model.stages))
        thawed = epoch // every if every else 0
        return max(0, frozen - thawed)

    def modules(self, epoch: int) -> tuple[str, ...]:
        """Return the names of the modules and lone parameters that are frozen in an epoch."""
        return frozen_modules(self.model, self.stages(epoch))

    def thawed_state(self) -> dict[str, Tensor]:
        """Return the part of the network's state dict that is in no stage that stays still: the tensors themselves."""
        return state_of(self.model, self.still, frozen=False)

    def moving(self, low_rank: LowRank | None) -> dict[str, Tensor]:
        """Return the part of the state that some epoch moves: with LoRA, the factors in place of the stages' weights.

        Where averages are measured, the weights stand beside the factors: an average of products is no such product.

        Args:
            low_rank: The return value of `low_rank` for this training.
        """
        # The state dict and not the parameters: statistics of batch normalisation move too.
        state = self.thawed_state()
        if low_rank is None:
            return state
        factors = {name: factor.detach() for name, factor in low_rank.factors.items()}
        recipe = self.recipe
        if recipe.ema_decay or recipe.swa_epochs or recipe.adaptation_grid:
            return state | factors
        # The products follow from the factors and the pretrained weights, so that a state need not hold them.
        staged = self._staged()
        own = self.model.network.named_parameters()
        made = {name for name, _ in own if is_within(name, staged)}
        return {name: value for name, value in state.items() if name not in made} | factors

    def low_rank(self, seed: int) -> LowRank | None:
        """Let the weights, pretrained as yet, move by LoRA; None where the recipe does not ask for it."""
        if not self.recipe.lora_rank:
            return None
        thawed = self.model.stages[self.still :]
        modules = tuple(name for names in thawed for name in names)
        # Not below `still`: those weights are computed once for all trials, and must stay what they were.
        reached = {
            name: parameter
            for name, parameter in self._movable().items()
            if is_within(name, modules)
        }
        return LowRank(reached, self.recipe, seed)

    def redraw(self, seed: int) -> None:
        """Draw the last layers of a model for texts anew where the recipe says so, as far as some epoch trains them.

        Raises:
            LayersShared: The recipe says so, and the model has one layer for all.

        What the last layers have learned is often of the pretraining's task alone (Zhang et al., 2021,
        https://arxiv.org/abs/2006.05987, section 5).
        """
        trained = len(self.model.stages) - max(1, self.still)  # The embeddings are no layer.
        count = min(self.recipe.reinit_layers, trained)
        network = self.model.network
        if not isinstance(network, TextNetwork) or count < 1:
            return
        if network.shape.shares_layers:
            raise LayersShared(self.model.name)
        with seeded(derive(seed, "reinit")):
            for name in (name for names in self.model.stages[-count:] for name in names):
                network.redraw(network.get_submodule(name))

    def freeze(self, epoch: int = 0) -> None:
        """Choose what an epoch trains: the head, and of each thawed stage everything, or what LoRA reaches."""
        frozen = self.modules(epoch)
        movable = self._movable()
        for name, parameter in self.model.network.named_parameters():
            parameter.requires_grad_(name in movable and not is_within(name, frozen))

    def training_mode(self, epoch: int = 0) -> None:
        """Set the modules for the training steps of an epoch.

        Frozen stages stay in evaluation mode: their batch normalisation keeps the pretrained statistics, which
        would otherwise drift though no weight moves. Where the recipe says so, every batch normalisation does; and
        with one picture in a batch, since one picture has no variance.
        """
        # Flag by flag: `model.train()` would set those of the frozen modules too, and then set them back.
        self.model.training = True
        frozen = self.modules(epoch)
        recipe = self.recipe
        keeps_statistics = recipe.batch_norm == "frozen" or 1 in (
            recipe.batch_size,
            recipe.micro_batch_size,
        )
        for name, module in _named_modules(self.model.network):
            still = is_within(name, frozen) or (
                keeps_statistics and isinstance(module, _BatchNorm)
            )
            # Asked first: a head alone trains for microseconds, and setting the flags of a whole network takes as long.
            if module.training is still:
                module.training = not still

    def moving_statistics(self, epoch: int = 0) -> list[_BatchNorm]:
        """Return the batch normalisation whose statistics an epoch moves; the model is left in its training mode."""
        self.training_mode(epoch)
        return [
            module
            for module in self.model.modules()
            if isinstance(module, _BatchNorm) and module.training
        ]

    def _staged(self) -> tuple[str, ...]:
        return frozen_modules(self.model, len(self.model.stages))

    def _movable(self) -> dict[str, nn.Parameter]:
        """All parameters, or with LoRA those of the head and of the stages the weights that it reaches."""
        own = dict(self.model.network.named_parameters())
        if not self.recipe.lora_rank:
            return own
        staged = self._staged()
        reached = set(lora.targets(self.model.network))
        return {
            name: p for name, p in own.items() if name in reached or not is_within(name, staged)
        }


def frozen_modules(backbone: Backbone, frozen_stages: int) -> tuple[str, ...]:
    """Return the names of the modules and lone parameters of the first `frozen_stages` stages."""
    names = tuple(name for names in backbone.stages[:frozen_stages] for name in names)
    # With all that is within them, what computes as one is frozen too: it then stays in evaluation mode.
    return names + backbone.whole if frozen_stages >= len(backbone.stages) else names


def state_of(backbone: Backbone, frozen_stages: int, *, frozen: bool) -> dict[str, Tensor]:
    """Return the part of the network's state dict that is in the first `frozen_stages` stages, or the rest of it."""
    # By name: a stage may be a lone parameter, such as a class token, which no module stands for.
    modules = frozen_modules(backbone, frozen_stages)
    state = cast(dict[str, Tensor], backbone.network.state_dict())
    return {name: value for name, value in state.items() if is_within(name, modules) == frozen}


def _named_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return cast(Iterator[tuple[str, nn.Module]], network.named_modules())
