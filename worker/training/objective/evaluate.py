"""How well a model does on a split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import PlacedSplit, row_batches
from worker.training.objective.objectives import Objective

BATCH_SIZE = 256


@dataclass(frozen=True, slots=True)
class Scores:
    """What was measured over `count` pictures, by name; the mean loss is always among it."""

    metrics: Mapping[str, float]
    count: int

    @property
    def loss(self) -> float:
        """The mean loss."""
        return self.metrics["loss"]


def evaluate(
    model: nn.Module,
    split: PlacedSplit,
    objective: Objective,
    forward: Callable[[Tensor], Tensor] | None = None,
    *,
    micro_batches: MicroBatches | None = None,
    precision: str = "auto",
    each_batch: Callable[[], object] = lambda: None,
) -> Scores:
    """Score a model in evaluation mode; it stays in it.

    Args:
        model: What is scored.
        split: What it is scored on.
        objective: What is measured.
        forward: The part of the model that takes what `split` holds; None is all of it.
        micro_batches: What the device's memory takes at once; None tries whole batches first.
        precision: As a recipe names it.
        each_batch: Called before every batch.
    """
    forward, micro_batches = forward or model, micro_batches or MicroBatches()
    model.eval()

    def compute(micro_batch: Tensor) -> Tensor:
        return forward(micro_batch).float()

    outputs: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.inference_mode(), split.autocast(precision):
        for rows in row_batches(torch.arange(len(split)), BATCH_SIZE):
            each_batch()
            inputs, batch_labels = split.take(rows)
            outputs += micro_batches.each(inputs, compute)
            labels.append(batch_labels)
    return Scores(objective.metrics(torch.cat(outputs), torch.cat(labels)), len(split))
