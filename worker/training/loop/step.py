"""One pass over the training split: batches, steps, and the watch for a loss that is not finite."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab.contract.recipe import Recipe
from worker.training.augment.augmentation import Augmentation, Batch
from worker.training.device import placement
from worker.training.device.micro_batches import MicroBatches
from worker.training.errors import Diverged
from worker.training.features.features import Inputs
from worker.training.loop.distillation import Lessons
from worker.training.loop.linear_head import LinearHead
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing
from worker.training.objective.objectives import Objective
from worker.training.optim import schedules
from worker.training.optim.optimizers import Optimizer
from worker.training.optim.weight_averages import Averages

CHECK_STEPS = 50
"""Reading the loss waits for the device, so it is looked at for NaN only once in this many steps."""


@dataclass(frozen=True, slots=True)
class Learner:
    """All that one pass works with; what changes from pass to pass is inside `model` and `optimizer`."""

    freezing: Freezing
    optimizer: Optimizer
    objective: Objective
    device: torch.device
    inputs: Inputs
    averages: Averages
    micro_batches: MicroBatches
    lessons: Lessons | None
    each_batch: Callable[[], object]
    plain: LinearHead | None = None
    augmentation: Augmentation | None = None

    @property
    def model(self) -> Backbone:
        """The network that is trained."""
        return self.freezing.model

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return self.freezing.recipe


def train_epoch(learner: Learner, epoch: int) -> float:
    """Pass once over the training split; return its mean loss.

    Whatever is random is drawn from torch's generators, which the caller has seeded for this epoch.

    Raises:
        Diverged: A loss is not finite.
    """
    if learner.recipe.unfreeze_every:
        learner.freezing.freeze(epoch)
    learner.freezing.training_mode(epoch)
    size = learner.recipe.batch_size
    order = whole_batches(torch.randperm(len(learner.inputs.train)), size)
    batches = placement.row_batches(order, size)
    total, seen = torch.zeros((), dtype=torch.float64, device=learner.device), 0
    for position, rows in enumerate(batches):
        learner.each_batch()
        step = epoch * len(batches) + position
        rate = schedules.learning_rate(learner.recipe, step=step, steps_per_epoch=len(batches))
        total += _step(learner, rows, rate) * len(rows)
        seen += len(rows)
        looks = (position + 1) % CHECK_STEPS == 0 or position + 1 == len(batches)
        if looks and not math.isfinite(total.item()):
            raise Diverged(epoch, "training")
    return total.item() / seen


def whole_batches(order: Tensor, batch_size: int) -> Tensor:
    """Leave out a single sample that is left over after the last batch: it has no batch statistics."""
    lone = 1 < batch_size < len(order) and len(order) % batch_size == 1
    return order[:-1] if lone else order


def _batch(learner: Learner, rows: Tensor) -> Batch:
    inputs, labels = learner.inputs.train.take(rows)
    if learner.augmentation is None:
        return Batch(inputs, labels)
    return learner.augmentation(inputs, labels)


def _step(learner: Learner, rows: Tensor, rate: float) -> Tensor:
    loss = _lower(learner, rows)
    learner.optimizer.step(rate)
    learner.averages.after_step()
    return loss


def _lower(learner: Learner, rows: Tensor) -> Tensor:
    """Compute the gradients of a batch's mean loss; return that loss."""
    batch = _batch(learner, rows)
    answers = None if learner.lessons is None else learner.lessons.of(rows, batch.inputs)
    return learner.micro_batches.run(
        len(batch), lambda micro_batches: _gradients(learner, batch, answers, micro_batches)
    )


def _gradients(
    learner: Learner, batch: Batch, answers: Tensor | None, micro_batches: Sequence[slice]
) -> Tensor:
    """The same, portion by portion."""
    learner.optimizer.zero_grad()
    losses: list[Tensor] = []
    for micro_batch in micro_batches:
        part = batch.part(micro_batch)
        with learner.inputs.train.autocast(learner.recipe.precision):
            outputs = learner.inputs.forward(part.inputs)
            loss = part.loss(learner.objective, outputs)
            if learner.lessons is not None and answers is not None:
                loss = learner.lessons.loss(loss, outputs, answers[micro_batch])
        share = len(part) / len(batch)
        learner.optimizer.backward(loss if share == 1 else loss * share)
        losses.append(loss.detach() * share)
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
