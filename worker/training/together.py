"""One pass over the training split for several heads at once: on a CPU each learns bit by bit what it would alone."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from worker.training import schedules
from worker.training.errors import Diverged, TooMuchAtOnce, is_out_of_memory
from worker.training.head_stack import HeadStack, keeps_bits
from worker.training.placement import PlacedSplit
from worker.training.plain_head import PlainHead
from worker.training.step import CHECK_STEPS, Learner, whole_batches


@dataclass(slots=True)
class Lane:
    """The next epoch of a training that is a plain head.

    Attributes:
        learner: Whose.
        head: What it trains.
        epoch: From 0.
        seed: Of the order of its pictures.
        loss: The mean over the epoch, once it is over.
        failure: What ended the training before.
    """

    learner: Learner
    head: PlainHead
    epoch: int
    seed: int
    loss: float = math.nan
    failure: Exception | None = None

    def order(self, count: int) -> Tensor:
        """Row numbers as this epoch goes over them."""
        generator = torch.Generator().manual_seed(self.seed)
        return whole_batches(
            torch.randperm(count, generator=generator), self.learner.recipe.batch_size
        )

    def begin_step(self) -> None:
        """Show life, and hear whether to go on."""
        try:
            self.learner.each_batch()
        except Exception as error:  # noqa: BLE001 - it ends this training, and none of the others
            self.fail(error)

    def end_step(self, position: int, steps: int) -> None:
        """Move along the gradients."""
        learner = self.learner
        step = self.epoch * steps + position
        rate = schedules.learning_rate(learner.recipe, step=step, steps_per_epoch=steps)
        try:
            learner.optimizer.step(rate)
            learner.averages.after_step()
        except Exception as error:  # noqa: BLE001 - as above
            self.fail(error)

    def look(self, loss: float) -> None:
        """See that what the losses have come to is a number."""
        self.loss = loss
        if not math.isfinite(loss):
            self.fail(Diverged(self.epoch, "training"))

    def fail(self, error: Exception) -> None:
        """End this training by the first thing that went wrong."""
        if self.failure is None:
            self.failure = error


def train_epochs(lanes: Sequence[Lane]) -> None:
    """Train the next epoch of each, in one computation where they are of one shape; each says how it went.

    Args:
        lanes: On one device.
    """
    for group in _groups(lanes):
        try:
            _train(group)
        except Exception as error:  # noqa: BLE001 - each of them is told, and ends by it
            too_much = len(group) > 1 and is_out_of_memory(error)
            for lane in group:
                lane.fail(TooMuchAtOnce(len(group)) if too_much else error)


def _groups(lanes: Iterable[Lane]) -> Iterable[Sequence[Lane]]:
    by_shape: defaultdict[tuple[int, int], list[Lane]] = defaultdict(list)
    for lane in lanes:
        learner = lane.learner
        by_shape[learner.recipe.batch_size, id(learner.inputs.train)].append(lane)
    for group in by_shape.values():
        if _may_be_stacked(group):
            yield group
        else:
            yield from ([lane] for lane in group)


def _may_be_stacked(lanes: Sequence[Lane]) -> bool:
    learner, layer = lanes[0].learner, lanes[0].head.layer
    if not all(lane.head.is_small for lane in lanes):
        return False
    if learner.device.type != "cpu":
        return True
    size, count = learner.recipe.batch_size, len(learner.inputs.train)
    sizes = {min(size, count), count % size} - {0}
    return all(keeps_bits(len(lanes), n, layer.in_features, layer.out_features) for n in sizes)


def _train(lanes: Sequence[Lane]) -> None:
    train, size = lanes[0].learner.inputs.train, lanes[0].learner.recipe.batch_size
    stack = HeadStack([lane.head.layer for lane in lanes])
    orders = torch.stack([lane.order(len(train)) for lane in lanes])
    starts = range(0, orders.shape[1], size)
    totals = torch.zeros(len(lanes), dtype=torch.float64, device=train.device)
    for position, start in enumerate(starts):
        for lane in lanes:
            lane.begin_step()
        totals += _losses(stack, train, orders[:, start : start + size])
        for lane in lanes:
            lane.end_step(position, len(starts))
        if (position + 1) % CHECK_STEPS == 0 or position + 1 == len(starts):
            _look(lanes, totals / orders.shape[1])
            if all(lane.failure is not None for lane in lanes):
                return


def _look(lanes: Sequence[Lane], means: Tensor) -> None:
    for lane, mean in zip(lanes, cast(list[float], means.tolist()), strict=True):
        lane.look(mean)


def _losses(stack: HeadStack, train: PlacedSplit, rows: Tensor) -> Tensor:
    """Compute the gradients of a batch for each lane, `(lanes, N)` row numbers; return the sum of its losses."""
    features, labels = train.take(rows.flatten())
    features = features.view(*rows.shape, -1)
    return stack.gradients(features, labels.view_as(rows)).sum(1, dtype=torch.float64)
