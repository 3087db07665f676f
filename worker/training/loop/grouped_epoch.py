"""One pass over the training split for several heads at once: on a CPU each learns bit by bit what it would alone."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from worker.training.device.placement import PlacedSplit
from worker.training.errors import Diverged, TooMuchAtOnce, is_out_of_memory
from worker.training.loop.head_stack import HeadStack, keeps_bits
from worker.training.loop.linear_head import LinearHead
from worker.training.loop.step import CHECK_STEPS, Learner, whole_batches
from worker.training.optim import schedules


@dataclass(slots=True)
class GroupMember:
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
    head: LinearHead
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


def train_epochs(members: Sequence[GroupMember]) -> None:
    """Train the next epoch of each, in one computation where they are of one shape; each says how it went.

    Args:
        members: On one device.
    """
    for group in _groups(members):
        try:
            _train(group)
        except Exception as error:  # noqa: BLE001 - each of them is told, and ends by it
            too_much = len(group) > 1 and is_out_of_memory(error)
            for member in group:
                member.fail(TooMuchAtOnce(len(group)) if too_much else error)


def _groups(members: Iterable[GroupMember]) -> Iterable[Sequence[GroupMember]]:
    by_shape: defaultdict[tuple[int, int], list[GroupMember]] = defaultdict(list)
    for member in members:
        learner = member.learner
        by_shape[learner.recipe.batch_size, id(learner.inputs.train)].append(member)
    for group in by_shape.values():
        if _may_be_stacked(group):
            yield group
        else:
            yield from ([member] for member in group)


def _may_be_stacked(members: Sequence[GroupMember]) -> bool:
    learner, layer = members[0].learner, members[0].head.layer
    if not all(member.head.is_small for member in members):
        return False
    if learner.device.type != "cpu":
        return True
    size, count = learner.recipe.batch_size, len(learner.inputs.train)
    sizes = {min(size, count), count % size} - {0}
    return all(
        keeps_bits(len(members), n, layer.in_features, layer.out_features) for n in sizes
    )


def _train(members: Sequence[GroupMember]) -> None:
    train, size = members[0].learner.inputs.train, members[0].learner.recipe.batch_size
    stack = HeadStack([member.head.layer for member in members])
    orders = torch.stack([member.order(len(train)) for member in members])
    starts = range(0, orders.shape[1], size)
    totals = torch.zeros(len(members), dtype=torch.float64, device=train.device)
    for position, start in enumerate(starts):
        for member in members:
            member.begin_step()
        totals += _losses(stack, train, orders[:, start : start + size])
        for member in members:
            member.end_step(position, len(starts))
        if (position + 1) % CHECK_STEPS == 0 or position + 1 == len(starts):
            _look(members, totals / orders.shape[1])
            if all(member.failure is not None for member in members):
                return


def _look(members: Sequence[GroupMember], means: Tensor) -> None:
    for member, mean in zip(members, cast(list[float], means.tolist()), strict=True):
        member.look(mean)


def _losses(stack: HeadStack, train: PlacedSplit, rows: Tensor) -> Tensor:
    """Compute the gradients of a batch for each lane, `(lanes, N)` row numbers; return the sum of its losses."""
    features, labels = train.take(rows.flatten())
    features = features.view(*rows.shape, -1)
    return stack.gradients(features, labels.view_as(rows)).sum(1, dtype=torch.float64)
