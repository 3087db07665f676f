"""Linear layers of one shape on features, computed at once: each kernel is called for all of them.

The chain rule is written out: a graph for two matrix products takes torch longer to build and to walk than the products
themselves, and to call a kernel for a small layer takes longer than it works.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn


class HeadStack:
    """Linear layers of one shape that learn side by side under the mean cross-entropy without weights.

    Args:
        layers: The heads, each from features `(N, F)` to logits `(N, classes)`.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._layers = layers
        self._one = torch.ones((), device=layers[0].weight.device)

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Return the logits `(heads, N, classes)` of each head's features `(heads, N, F)`."""
        # Stacked anew at each call: the optimizers move the layers' own weights, and the copy is small.
        weights = _stacked([layer.weight for layer in self._layers])
        biases = [layer.bias for layer in self._layers if _has_bias(layer)]
        return _logits(features, weights, _stacked(biases) if biases else None)

    @torch.no_grad()
    def gradients(self, features: Tensor, labels: Tensor) -> Tensor:
        """Give each layer's parameters the gradients of its batch's mean loss.

        Args:
            features: The batch of each head, `(heads, N, F)`.
            labels: Class positions, `(heads, N)`.

        Returns:
            The loss of every sample, `(heads, N)`.
        """
        aten, classes = torch.ops.aten, labels.flatten()
        chances = self.logits(features).flatten(0, 1).log_softmax(1)
        losses, _ = aten.nll_loss_forward.default(chances, classes, None, 0, -100)
        # These are the kernels that `cross_entropy` calls, so that the bits are its bits. They see the samples of all
        # heads as one batch, but the mean is over one head's samples: `count` says how many those are.
        count = torch.full_like(self._one, labels.shape[1])
        slopes = aten.nll_loss_backward.default(
            self._one, chances, classes, None, 1, -100, count
        )
        slopes = aten._log_softmax_backward_data.default(slopes, chances, 1, chances.dtype)
        slopes = slopes.view(*labels.shape, -1)
        self._give(_of_weights(slopes, features), slopes.sum(1))
        return losses.view_as(labels)

    def _give(self, of_weights: Tensor, of_biases: Tensor) -> None:
        for layer, weight, bias in zip(self._layers, of_weights, of_biases, strict=True):
            layer.weight.grad = weight
            if _has_bias(layer):
                layer.bias.grad = bias


def _logits(features: Tensor, weights: Tensor, biases: Tensor | None) -> Tensor:
    columns = weights.transpose(1, 2)
    if biases is None:
        return features.bmm(columns)
    return torch.baddbmm(biases.unsqueeze(1), features, columns)


def _of_weights(slopes: Tensor, features: Tensor) -> Tensor:
    return slopes.transpose(1, 2).bmm(features)


def _stacked(each: Sequence[Tensor]) -> Tensor:
    # One head is a view: most trainings are alone, and need not copy their weights at every step.
    return each[0].detach().unsqueeze(0) if len(each) == 1 else torch.stack(list(each))


def _has_bias(layer: nn.Linear) -> bool:
    return layer.bias is not None  # pyright: ignore[reportUnnecessaryComparison] - torch's types know no layer without


@cache
def keeps_bits(heads: int, pictures: int, width: int, classes: int) -> bool:
    """Whether this CPU's batched products give each head the bits that it gets alone.

    MKL's do on Intel from AVX2 on, in all shapes that were tried, and on AMD where the width is a multiple of four. Which
    kernel a library takes depends on the shape and not on the values, so that one trial of a shape tells.
    """
    # Random numbers fill all digits, so that another order of summation would round otherwise and be seen.
    drawn = torch.Generator().manual_seed(0)
    features = torch.randn(heads, pictures, width, generator=drawn)
    weights = torch.randn(heads, classes, width, generator=drawn)
    biases = torch.randn(heads, classes, generator=drawn)
    together = _both_products(features, weights, biases)
    for head in range(heads):
        # A copy, as a head that is alone has it: a slice would lie at another address, perhaps not aligned.
        own = [each[head : head + 1].clone() for each in (features, weights, biases)]
        for alone, all_heads in zip(_both_products(*own), together, strict=True):
            if not torch.equal(alone[0], all_heads[head]):
                return False
    return True


def _both_products(features: Tensor, weights: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
    logits = _logits(features, weights, biases)
    return logits, _of_weights(logits, features)
