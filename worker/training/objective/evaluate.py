"""Evaluation: the metrics of a model on a split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import PlacedSplit, by_length, put_back, row_batches
from worker.training.objective.objectives import Objective

BATCH_SIZE = 256


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of `count` pictures by name; `loss` is always among them.

    Attributes:
        metrics: The metrics.
        count: The number of pictures.
        outputs: The outputs of the network's last layer for each of them, float32 `(count, width)`; None where nothing was
            asked.
        labels: Their labels, in the same order.
    """

    metrics: Mapping[str, float]
    count: int
    outputs: Tensor | None = field(default=None, repr=False, compare=False)
    labels: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def loss(self) -> float:
        """The mean loss."""
        return self.metrics["loss"]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network's last layer gives for the rows of a split.

    Attributes:
        outputs: The outputs, float32 `(N, width)`.
        labels: The labels of the same rows, `(N,)` or `(N, targets)`.
    """

    outputs: Tensor
    labels: Tensor


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
    """Score a model on a split; the arguments are those of `answers_of`, and `objective`, whose metrics are computed."""
    answers = answers_of(
        model,
        split,
        forward,
        micro_batches=micro_batches,
        precision=precision,
        each_batch=each_batch,
    )
    measured = objective.metrics(answers.outputs, answers.labels)
    return Scores(measured, len(split), answers.outputs, answers.labels)


def answers_of(
    model: nn.Module,
    split: PlacedSplit,
    forward: Callable[[Tensor], Tensor] | None = None,
    *,
    micro_batches: MicroBatches | None = None,
    precision: str = "auto",
    each_batch: Callable[[], object] = lambda: None,
) -> Answers:
    """Ask a model about a split. The model is put into evaluation mode and stays in it.

    Args:
        model: The model that is asked.
        split: The split that it is asked about.
        forward: The part of the model that takes the inputs in `split`; None is the whole model.
        micro_batches: The number of pictures that the device takes at once; None tries whole batches first.
        precision: The precision to compute in, by its name in a recipe.
        each_batch: A function that is called before every batch.
    """
    forward, micro_batches = forward or model, micro_batches or MicroBatches()
    model.eval()

    def compute(micro_batch: Tensor) -> Tensor:
        return forward(micro_batch).float()

    outputs: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.inference_mode(), split.autocast(precision):
        order = by_length(len(split), split.lengths)
        for rows in row_batches(order, BATCH_SIZE):
            each_batch()
            inputs, batch_labels = split.take(rows)
            outputs += micro_batches.each(inputs, compute)
            labels.append(batch_labels)
    if split.lengths is None:
        return Answers(torch.cat(outputs), torch.cat(labels))
    return Answers(put_back(outputs, order), put_back(labels, order))
