"""How well a model does on a split."""

from dataclasses import dataclass

import torch
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


def evaluate(model: Backbone, split: PlacedSplit) -> Scores:
    """Score a model in evaluation mode; it stays in it."""
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.device)
    loss = torch.zeros((), dtype=torch.float64, device=split.device)
    with torch.inference_mode(), autocast(split.device):
        for rows in row_batches(torch.arange(len(split)), BATCH_SIZE):
            images, labels = split.take(rows)
            logits = model(images).float()
            correct += (logits.argmax(dim=1) == labels).sum()
            loss += functional.cross_entropy(logits, labels, reduction="sum")
    return Scores(correct.item() / len(split), loss.item() / len(split), len(split))
