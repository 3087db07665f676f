"""One pass over the training split: batches, steps, and the watch for a loss that is not finite."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trimtab.contract.recipe import Recipe
from worker.training import seeding
from worker.training.augment.augmentation import Augmentation, Batch
from worker.training.device import placement
from worker.training.device.micro_batches import MicroBatches
from worker.training.device.ranks import Ranks
from worker.training.errors import Diverged, Interrupted
from worker.training.features.features import Inputs
from worker.training.loop.distillation import Lessons
from worker.training.loop.linear_head import LinearHead
from worker.training.loop.shared_step import PartOfLoss, SharedEpoch
from worker.training.loop.state import PartOfEpoch
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing
from worker.training.objective.objectives import Objective
from worker.training.optim import schedules
from worker.training.optim.optimizers import Optimizer
from worker.training.optim.weight_averages import Averages

CHECK_STEPS = 50
"""Reading the loss waits for the device, so it is looked at for NaN only once in this many steps."""


Together = Callable[[int, PartOfLoss], Tensor]
"""Takes a step of so many rows, of which a function computes a part."""


@dataclass(frozen=True, slots=True)
class Learner:
    """All that one pass over the training split works with.

    What changes from pass to pass is inside the network, the optimizer and the averages.

    Attributes:
        freezing: The network, its recipe, and which part of it each epoch trains.
        optimizer: The parameters that move, with their moments.
        objective: The loss that is lowered, and the metrics.
        device: The device that computes.
        inputs: Both splits, as samples or as features, and the function to their logits.
        averages: The averages of the weights, which may be measured in place of the weights themselves.
        micro_batches: The number of samples that the device computes at once.
        lessons: A teacher's answers; None where nobody teaches.
        each_batch: Is called before every batch; what it raises ends the training.
        plain: The linear head that the training is, if it is no more than that.
        augmentation: Changes every training batch; None leaves the samples as they are.
        ranks: The processes that take each step together; None where this one trains alone.
    """

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
    ranks: Ranks | None = None

    @property
    def model(self) -> Backbone:
        """The network that is trained."""
        return self.freezing.model

    @property
    def recipe(self) -> Recipe:
        """The hyperparameters that it is trained with."""
        return self.freezing.recipe


def train_epoch(
    learner: Learner,
    epoch: int,
    begun: PartOfEpoch | None,
    note: Callable[[PartOfEpoch], None],
    seed: int,
) -> float:
    """Pass once over the training split, or over the rest of it; return the mean loss of the whole pass.

    Whatever is random is drawn from torch's generators, which the caller has seeded for this epoch.

    Args:
        learner: All that the pass works with.
        epoch: The number of the epoch, from 0.
        begun: The part of the epoch that is done already; None at its beginning.
        note: Called with the part that is done, when the epoch is left and when all its steps are done.
        seed: The seed of this epoch.

    Raises:
        Diverged: A loss is not finite.
        Interrupted: `each_batch` asks to leave.
        RankFailed: Another rank has met an error.
    """
    make_ready(learner, epoch)
    shared = _shared(learner, epoch, seed)
    size = learner.recipe.batch_size
    order = whole_batches(torch.randperm(len(learner.inputs.train)), size)
    batches = placement.drawn_batches(order, size, learner.inputs.train.lengths)
    # The sum stays on the device and in float64: to fetch each step's loss would wait for the device at each step.
    total, seen, done = torch.zeros((), dtype=torch.float64, device=learner.device), 0, 0
    if begun is not None:
        total += begun.loss.to(learner.device)
        seen, done = begun.samples, begun.steps
        seeding.set_generators(begun.generators, learner.device)
    for position, rows in enumerate(batches[done:], done):
        try:
            learner.each_batch()
        except Exception as error:
            if shared is not None:
                shared.leave()
            if isinstance(error, Interrupted):
                drawn = seeding.generators(learner.device)
                note(PartOfEpoch(position, seen, total.cpu(), drawn))
            raise
        # The rate is a function of the step's number and not of a counter, so that a resumed training has the same.
        step = epoch * len(batches) + position
        rate = schedules.learning_rate(learner.recipe, step=step, steps_per_epoch=len(batches))
        together = None if shared is None else partial(shared.take, position)
        total += take_step(learner, rows, rate, together) * len(rows)
        seen += len(rows)
        looks = (position + 1) % CHECK_STEPS == 0 or position + 1 == len(batches)
        if looks and not math.isfinite(total.item()):
            raise Diverged(epoch, "training")
    # The validation draws no numbers.
    note(PartOfEpoch(len(batches), seen, total.cpu(), {}))
    return total.item() / seen


def make_ready(learner: Learner, epoch: int) -> None:
    """Let the network train the stages of this epoch."""
    # Without gradual unfreezing the same stages are frozen in all epochs, and `begin` has frozen them.
    if learner.recipe.unfreeze_every:
        learner.freezing.freeze(epoch)
    learner.freezing.training_mode(epoch)


def whole_batches(order: Tensor, batch_size: int) -> Tensor:
    """Leave out a single sample that is left over after the last batch: it has no batch statistics.

    Args:
        order: Row numbers `(N,)`.
        batch_size: The number of samples in a batch; with 1, no sample is left out.
    """
    lone = 1 < batch_size < len(order) and len(order) % batch_size == 1
    return order[:-1] if lone else order


def _shared(learner: Learner, epoch: int, seed: int) -> SharedEpoch | None:
    if learner.ranks is None:
        return None
    return SharedEpoch(
        learner.ranks,
        learner.freezing,
        learner.micro_batches,
        epoch=epoch,
        seed=seed,
        device=learner.device,
    )


def _batch(learner: Learner, rows: Tensor, part: slice) -> Batch:
    """Return some rows of a batch."""
    if learner.augmentation is None:
        return Batch(*learner.inputs.train.take(rows[part]))
    # Samples are blended with others of the batch, and drawn for the batch as a whole.
    return learner.augmentation(*learner.inputs.train.take(rows)).part(part)


def take_step(
    learner: Learner, rows: Tensor, rate: float, together: Together | None = None
) -> Tensor:
    """Move the parameters by the gradients of a batch's mean loss; return that loss.

    Args:
        learner: The network and its optimizer, made ready for the epoch.
        rows: The row numbers of the batch.
        rate: The learning rate.
        together: Takes the step with the other ranks (`SharedEpoch.take`); None takes it alone.
    """
    if together is None:
        loss = _lower(learner, rows, slice(0, len(rows)), nullcontext())
    else:
        loss = together(len(rows), partial(_lower, learner, rows))
    learner.optimizer.step(rate)
    learner.averages.after_step()
    return loss


def _lower(
    learner: Learner, rows: Tensor, part: slice, drawing: AbstractContextManager[None]
) -> Tensor:
    """Compute the gradients of a part of a batch's mean loss; return that part of the loss.

    Args:
        learner: The network and its optimizer.
        rows: The row numbers of the whole batch.
        part: The rows that are computed here.
        drawing: The context in which these rows' own random numbers are drawn.
    """
    # Drawn and asked once for each batch. If memory runs out, the same batch is computed again in smaller parts, and
    # must be the same: the loss of a second augmentation would be that of another batch.
    batch = _batch(learner, rows, part)
    if not len(batch):
        learner.optimizer.zero_grad()
        return torch.zeros((), device=learner.device)
    lessons = learner.lessons
    answers = None if lessons is None else lessons.of(rows[part], batch.inputs)
    with drawing:
        return learner.micro_batches.run(
            len(batch),
            lambda micro_batches: _gradients(
                learner, batch, answers, micro_batches, of=len(rows)
            ),
        )


def _gradients(
    learner: Learner,
    batch: Batch,
    answers: Tensor | None,
    micro_batches: Sequence[slice],
    *,
    of: int,
) -> Tensor:
    """Add up the gradients of the mean loss over `of` rows, of which the batch is all or a part; return its loss."""
    # Zeroed here and not once a step: after memory ran out this is called again, and what the failed try has added
    # must go.
    learner.optimizer.zero_grad()
    losses: list[Tensor] = []
    for micro_batch in micro_batches:
        part = batch.part(micro_batch)
        with learner.inputs.train.autocast(learner.recipe.precision):
            outputs = learner.inputs.forward(part.inputs)
            loss = part.loss(learner.objective, outputs)
            if learner.lessons is not None and answers is not None:
                loss = learner.lessons.loss(loss, outputs, answers[micro_batch])
        # Each micro-batch's loss is a mean over its own samples. Weighted by its share of the batch, the sum is the
        # mean over the batch, also where the last part is smaller.
        share = len(part) / of
        learner.optimizer.backward(loss if share == 1 else loss * share)
        losses.append(loss.detach() * share)
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
