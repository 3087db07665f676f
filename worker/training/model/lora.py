"""Low-rank adaptation (LoRA, Hu et al., 2021, https://arxiv.org/abs/2106.09685, section 4.1).

A weight W, flattened to a matrix with a row for each output, becomes W + (alpha / rank) B A. W keeps its pretrained
values; B `(outputs, rank)` begins at zero, so that training begins with the pretrained network, and A
`(rank, inputs...)` at random, as in Microsoft's loralib. The network itself always holds the sum: whoever evaluates,
exports or averages it meets plain weights, and the gradients of A and B follow from the sum's. Convolutions in groups
are no special case: their rows are shorter.
"""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from trimtab.contract.recipe import Recipe
from worker.training.device.memory_format import as_matrix, laid_out_as
from worker.training.seeding import derive, seeded


class LowRank:
    """Weights of a network that move by products of thin matrices.

    Attributes:
        factors: The tensors that are trained: `<weight>.lora_A`, of the weight's shape but with `rank` rows, and
            `<weight>.lora_B`, `(outputs, rank)`.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], recipe: Recipe, seed: int) -> None:
        """Begin where `weights` are now, on their device."""
        with seeded(derive(seed, "lora")):
            self._pairs = {
                name: _Pair(weight, recipe.lora_rank, recipe.lora_alpha)
                for name, weight in weights.items()
            }
        self.factors = {
            f"{name}.{factor}": parameter
            for name, pair in self._pairs.items()
            for factor, parameter in (("lora_A", pair.down), ("lora_B", pair.up))
        }

    def zero_grad(self) -> None:
        """Forget the gradients of the sums."""
        for pair in self._pairs.values():
            pair.weight.grad = None

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Give the factors their gradients, by the chain rule from those of the sums."""
        for pair in self._pairs.values():
            pair.take_gradients()

    @torch.no_grad()
    def merge(self) -> None:
        """Write the sums into the network."""
        for pair in self._pairs.values():
            pair.merge()

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the factors from tensors of their names, and write the sums into the network."""
        for name, factor in self.factors.items():
            factor.copy_(tensors[name])
        self.merge()


class _Pair:
    def __init__(self, weight: nn.Parameter, rank: int, alpha: float) -> None:
        self.weight = weight
        self._scale = alpha / rank
        drawn = nn.init.kaiming_uniform_(torch.empty(rank, *weight.shape[1:]), a=5**0.5)
        self.down = nn.Parameter(laid_out_as(weight, drawn.to(weight.device)))
        self.up = nn.Parameter(torch.zeros(len(weight), rank, device=weight.device))
        self._sum = as_matrix(weight.detach(), weight)
        self._pretrained = self._sum.clone()
        self._down = as_matrix(self.down.detach(), weight)

    def take_gradients(self) -> None:
        if self.weight.grad is None:
            # No gradient has reached the weight: the optimizer then leaves both factors as they are.
            self.down.grad = self.up.grad = None
            return
        gradient = as_matrix(self.weight.grad, self.weight)
        self.up.grad = (gradient @ self._down.T).mul_(self._scale)
        self.down.grad = torch.empty_like(self.down)
        down = as_matrix(self.down.grad, self.weight)
        torch.mm(self.up.T, gradient, out=down).mul_(self._scale)

    def merge(self) -> None:
        torch.addmm(self._pretrained, self.up, self._down, alpha=self._scale, out=self._sum)


def targets(network: nn.Module) -> Iterator[str]:
    """Yield the names of the weights that LoRA reaches: of linear, convolution and attention layers."""
    for name, module in cast(Iterator[tuple[str, nn.Module]], network.named_modules()):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            yield f"{name}.weight"
        elif isinstance(module, nn.MultiheadAttention):
            yield f"{name}.in_proj_weight"
