"""One pass over the training split for several heads at once.

The heads of a group read the same features, so that one computation serves all of them. On a CPU each head learns
bit by bit what it would learn alone: whether a trial was grouped must not show in its result.
"""

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
    """The next epoch of a training that is a linear head, as a member of a group.

    Attributes:
        learner: The training's optimizer, schedule and averages, which stay its own within the group.
        head: The linear layer that is trained, from features `(N, F)` to logits `(N, classes)`.
        epoch: The number of the epoch, counted from 0.
        seed: The seed that the order of the samples is drawn from.
        loss: The mean loss over the epoch once it is over; NaN before.
        failure: The error that ended this training; None as long as it goes on.
    """

    learner: Learner
    head: LinearHead
    epoch: int
    seed: int
    loss: float = math.nan
    failure: Exception | None = None

    def order(self, count: int) -> Tensor:
        """Return the row numbers `(count,)` in the order of this epoch, without a lone last one."""
        # The numbers are those that torch's global generator would draw from this seed. A generator of its own
        # lets each member have its order, and leaves the global one to whoever shares the process.
        generator = torch.Generator().manual_seed(self.seed)
        return whole_batches(
            torch.randperm(count, generator=generator), self.learner.recipe.batch_size
        )

    def begin_step(self) -> None:
        """Show life, and hear whether to go on."""
        # It raises where this trial is pruned, cancelled or lost. That is no concern of the other members.
        try:
            self.learner.each_batch()
        except Exception as error:  # noqa: BLE001 - it ends this training, and none of the others
            self.fail(error)

    def end_step(self, position: int, steps: int) -> None:
        """Take one step along the gradients; the head's own optimizer, rate and averages decide how."""
        learner = self.learner
        step = self.epoch * steps + position
        rate = schedules.learning_rate(learner.recipe, step=step, steps_per_epoch=steps)
        try:
            learner.optimizer.step(rate)
            learner.averages.after_step()
        except Exception as error:  # noqa: BLE001 - as above
            self.fail(error)

    def look(self, loss: float) -> None:
        """Note the mean loss of the batches so far, and end the training if it is not finite."""
        self.loss = loss
        if not math.isfinite(loss):
            self.fail(Diverged(self.epoch, "training"))

    def fail(self, error: Exception) -> None:
        """End this training by the first thing that went wrong."""
        if self.failure is None:
            self.failure = error


def train_epochs(members: Sequence[GroupMember]) -> None:
    """Train the next epoch of each member, in one computation where their batches are of one shape.

    An error is not raised: each member keeps its own in `failure`.

    Args:
        members: The trainings, whose heads and features lie on one device.
    """
    for group in _groups(members):
        try:
            _train(group)
        except Exception as error:  # noqa: BLE001 - each of them is told, and ends by it
            # An error of the shared computation cannot be put down to one member, so that it ends all of them.
            # Where memory ran out, the error says that they were together: each may still fit alone.
            too_much = len(group) > 1 and is_out_of_memory(error)
            for member in group:
                member.fail(TooMuchAtOnce(len(group)) if too_much else error)


def _groups(members: Iterable[GroupMember]) -> Iterable[Sequence[GroupMember]]:
    by_shape: defaultdict[tuple[int, int], list[GroupMember]] = defaultdict(list)
    for member in members:
        learner = member.learner
        # One product needs one shape: batches of as many samples, from the same features. The features are told
        # apart by identity, since two equal tensors would have to be compared byte by byte.
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
    # Only on a CPU is a training promised to repeat bit by bit, so that only there are the bits tried.
    if learner.device.type != "cpu":
        return True
    size, count = learner.recipe.batch_size, len(learner.inputs.train)
    # An epoch has batches of the full size and one short batch at its end. The library may take another kernel for
    # each of the two shapes, and for each number of heads.
    sizes = {min(size, count), count % size} - {0}
    return all(
        keeps_bits(len(members), n, layer.in_features, layer.out_features) for n in sizes
    )


def _train(members: Sequence[GroupMember]) -> None:
    train, size = members[0].learner.inputs.train, members[0].learner.recipe.batch_size
    stack = HeadStack([member.head.layer for member in members])
    orders = torch.stack([member.order(len(train)) for member in members])
    starts = range(0, orders.shape[1], size)
    # In float64, like the sum of `train_epoch`: thousands of small losses add up without rounding.
    totals = torch.zeros(len(members), dtype=torch.float64, device=train.device)
    for position, start in enumerate(starts):
        for member in members:
            member.begin_step()
        # A member that has failed stays in the stack: without it the products would have another shape, and the
        # other members perhaps other bits.
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
    """Compute the gradients of one batch for each head.

    Args:
        stack: The heads.
        train: The features of the training split, which all heads share.
        rows: Row numbers `(heads, N)`: each head goes over the samples in an order of its own.

    Returns:
        The sum of each head's losses, `(heads,)` in float64.
    """
    features, labels = train.take(rows.flatten())
    features = features.view(*rows.shape, -1)
    return stack.gradients(features, labels.view_as(rows)).sum(1, dtype=torch.float64)
