"""How well a model does on a split."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worker.training.backbones import Backbone
from worker.training.placement import PlacedSplit, autocast, row_batches

BATCH_SIZE = 256


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracy in [0, 1] and mean cross-entropy over `count` pictures."""

    accuracy: float
    loss: float
    count: int


def evaluate(
    model: Backbone,
    split: PlacedSplit,
    forward: Callable[[Tensor], Tensor] | None = None,
    *,
    each_batch: Callable[[], object] = lambda: None,
) -> Scores:
    """Score a model in evaluation mode; it stays in it.

    Args:
        model: What is scored.
        split: What it is scored on.
        forward: The part of the model that takes what `split` holds; None is all of it.
        each_batch: Called before every batch.
    """
    forward = forward or model
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.device)
    loss = torch.zeros((), dtype=torch.float64, device=split.device)
    with torch.inference_mode(), autocast(split.device):
        for rows in row_batches(torch.arange(len(split)), BATCH_SIZE):
            each_batch()
            inputs, labels = split.take(rows)
            logits = forward(inputs).float()
            correct += (logits.argmax(dim=1) == labels).sum()
            loss += functional.cross_entropy(logits, labels, reduction="sum")
    return Scores(correct.item() / len(split), loss.item() / len(split), len(split))
