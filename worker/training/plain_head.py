"""One linear layer on features, trained by the chain rule written out.

A graph for two matrix products takes torch longer to build and to walk than the products themselves.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from trimtab.contract.recipe import Recipe
from worker.training.distillation import Lessons
from worker.training.features import Inputs
from worker.training.objectives import Classification, Objective

_UNDIVIDED = 32_768
"""Up to so many elements torch itself does not divide among threads; its fused optimizers and MKL do."""


class PlainHead:
    """A linear layer under the plain mean cross-entropy: loss and gradients are bit by bit those of torch's graph.

    Args:
        layer: From features `(N, F)` to logits `(N, classes)`.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self._one = torch.ones((), device=layer.weight.device)

    @torch.no_grad()
    def gradients(self, features: Tensor, labels: Tensor) -> Tensor:
        """Give the layer's parameters the gradients of a batch's loss; return the loss.

        Args:
            features: `(N, F)`.
            labels: Class positions `(N,)`.
        """
        layer, aten = self.layer, torch.ops.aten
        chances = functional.linear(features, layer.weight, layer.bias).log_softmax(1)
        loss, weight = aten.nll_loss_forward(chances, labels, None, 1, -100)
        slope = aten.nll_loss_backward(self._one, chances, labels, None, 1, -100, weight)
        slope = aten._log_softmax_backward_data(slope, chances, 1, chances.dtype)
        layer.weight.grad = slope.t().mm(features)
        if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison] - torch's types know no layer without
            layer.bias.grad = slope.sum(0)
        return loss


@contextmanager
def few_threads(head: PlainHead | None) -> Generator[None]:
    """Compute a small head on one thread inside: to wake a second one takes longer than the work.

    Args:
        head: What is trained or measured inside; None, like a large one, keeps all threads.
    """
    if head is None or head.layer.weight.numel() > _UNDIVIDED:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def of(
    inputs: Inputs, objective: Objective, recipe: Recipe, lessons: Lessons | None
) -> PlainHead | None:
    """Return the head of a training that is nothing else; None where any option asks for more than plain steps.

    Args:
        inputs: What it goes over.
        objective: What it lowers.
        recipe: Whether batches are divided.
        lessons: Of a teacher, if there is one.
    """
    asks_for_more = lessons is not None or recipe.micro_batch_size is not None
    if inputs.layer is None or asks_for_more:
        return None
    is_plain = isinstance(objective, Classification) and objective.is_plain
    return PlainHead(inputs.layer) if is_plain else None
