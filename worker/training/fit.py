"""The training loop: `for epoch in fit(...)`. To stop it, stop asking."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from trimtab.contract.recipe import Recipe
from worker.data import TaskData
from worker.training import adaptation, features, optim, placement, seeding
from worker.training.backbones import Backbone
from worker.training.errors import CheckpointIncompatible, Diverged
from worker.training.evaluate import evaluate
from worker.training.feature_cache import FeatureCache
from worker.training.features import Inputs
from worker.training.optim import Optimizer
from worker.training.placement import PlacedSplit, autocast
from worker.training.state import FitState, Progress

_CHECK_STEPS = 50
"""Reading the loss waits for the device, so only every so many steps is it looked at for NaN."""


@dataclass(slots=True)
class _Training:
    """A training that is going on: what changes from step to step."""

    model: Backbone
    optimizer: Optimizer
    recipe: Recipe
    seed: int
    device: torch.device
    frozen_sha256: str
    inputs: Inputs
    each_batch: Callable[[], object]
    progress: Progress = field(default_factory=Progress)

    @property
    def ended(self) -> bool:
        """Whether the recipe asks for no further epoch."""
        patience = self.recipe.early_stopping_patience
        impatient = bool(patience) and self.progress.stale >= patience
        return self.progress.epochs >= self.recipe.epochs or impatient


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one epoch brought.

    Attributes:
        epoch: From 0.
        train_loss: Mean over the epoch, while the weights moved.
        validation_loss: After it.
        validation_accuracy: After it, in [0, 1].
        seconds: For training and validation.
        best: Whether this is the best epoch so far; then its state is the one to keep for the final evaluation.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    best: bool
    _training: _Training = field(repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """How large its whole state is."""
        weights = adaptation.state_of(
            self._training.model, self._training.recipe.frozen_stages, frozen=False
        )
        return sum(value.nbytes for value in weights.values()) + self._training.optimizer.nbytes

    def state(self, *, whole: bool = True) -> FitState:
        """Return a copy of everything that the next epoch depends on.

        Args:
            whole: Without it the optimizer's moments are left out: enough for evaluation, too little to carry on from.

        Raises:
            RuntimeError: The next epoch has begun, and the weights are no longer this one's.
        """
        if self._training.progress.epochs != self.epoch + 1:
            raise RuntimeError(
                "the state of an epoch is to be taken before the next is asked for"
            )
        return _capture(self._training, whole=whole)


def fit(
    model: Backbone,
    data: TaskData,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    resume: FitState | None = None,
    features_cache: FeatureCache | None = None,
    each_batch: Callable[[], object] = lambda: None,
) -> Iterator[EpochResult]:
    """Adapt a model to a task, an epoch at each `next`, until the recipe or its early stopping ends it.

    On a CPU the same seed gives the same curve bit by bit, and a training resumed from any epoch's state ends
    with the weights of the uninterrupted one.

    Args:
        model: Fresh from `backbones.build`; trained in place.
        data: What it learns from and is measured by.
        recipe: How.
        seed: Of data order and dropout.
        device: Where.
        resume: State to carry on from, of the same model, recipe and seed.
        features_cache: Where to keep what frozen stages make of the data; None computes it for this training alone.
        each_batch: Called before every batch; what it raises ends the training.

    Raises:
        CheckpointIncompatible: `resume` is of another training.
        Diverged: From the iterator: a loss is not finite.
    """
    adaptation.freeze(model, recipe)
    model.to(device).to(memory_format=torch.channels_last)
    inputs = features.inputs_of(
        model, data, recipe, device, cache=features_cache, each_batch=each_batch
    )
    training = _Training(
        model=model,
        optimizer=Optimizer(model.network, recipe),
        recipe=recipe,
        seed=seed,
        device=device,
        frozen_sha256=features.digest(model, recipe.frozen_stages),
        inputs=inputs,
        each_batch=each_batch,
    )
    if resume is not None:
        _restore(training, resume)
    return _epochs(training)


def _epochs(training: _Training) -> Iterator[EpochResult]:
    inputs = training.inputs
    while not training.ended:
        began = time.perf_counter()
        epoch = training.progress.epochs
        with seeding.seeded(seeding.derive(training.seed, "epoch", epoch), training.device):
            train_loss = _train_one(training, inputs.train)
        scores = evaluate(
            training.model, inputs.validation, inputs.forward, each_batch=training.each_batch
        )
        if not math.isfinite(scores.loss):
            raise Diverged(epoch, "validation")
        training.progress = training.progress.after(
            scores.accuracy, scores.loss, training.recipe.early_stopping_min_gain
        )
        yield EpochResult(
            epoch=epoch,
            train_loss=train_loss,
            validation_loss=scores.loss,
            validation_accuracy=scores.accuracy,
            seconds=time.perf_counter() - began,
            best=training.progress.best_epoch == epoch,
            _training=training,
        )


def _train_one(training: _Training, train: PlacedSplit) -> float:
    """One pass over the training split; return its mean loss."""
    recipe, epoch = training.recipe, training.progress.epochs
    adaptation.training_mode(training.model, recipe)
    batches = _batches(len(train), recipe.batch_size)
    total, seen = torch.zeros((), dtype=torch.float64, device=training.device), 0
    for position, rows in enumerate(batches):
        training.each_batch()
        step = epoch * len(batches) + position
        rate = optim.learning_rate(recipe, step=step, steps_per_epoch=len(batches))
        total += _step(training, *train.take(rows), rate) * len(rows)
        seen += len(rows)
        looks = (position + 1) % _CHECK_STEPS == 0 or position + 1 == len(batches)
        if looks and not math.isfinite(total.item()):
            raise Diverged(epoch, "training")
    return total.item() / seen


def _batches(count: int, batch_size: int) -> list[Tensor]:
    """A new order, cut into batches. A single picture left over is left out: it has no batch statistics."""
    batches = placement.row_batches(torch.randperm(count), batch_size)
    if len(batches) > 1 and batch_size > 1 and len(batches[-1]) == 1:
        del batches[-1]
    return batches


def _step(training: _Training, images: Tensor, labels: Tensor, rate: float) -> Tensor:
    with autocast(training.device):
        loss = functional.cross_entropy(training.inputs.forward(images), labels)
    training.optimizer.zero_grad()
    loss.backward()
    training.optimizer.step(rate)
    return loss.detach()


def _capture(training: _Training, *, whole: bool) -> FitState:
    frozen_stages = training.recipe.frozen_stages
    weights = adaptation.state_of(training.model, frozen_stages, frozen=False)
    return FitState(
        seed=training.seed,
        frozen_stages=frozen_stages,
        frozen_sha256=training.frozen_sha256,
        optimizer=training.recipe.optimizer,
        progress=training.progress,
        weights={name: tensor.detach().cpu().clone() for name, tensor in weights.items()},
        moments=training.optimizer.tensors() if whole else {},
    )


def _restore(training: _Training, state: FitState) -> None:
    if state.seed != training.seed:
        raise CheckpointIncompatible(
            f"the checkpoint's seed is {state.seed}, not {training.seed}"
        )
    if state.optimizer != training.recipe.optimizer:
        raise CheckpointIncompatible(
            f"the checkpoint is of {state.optimizer}, the recipe asks for {training.recipe.optimizer}"
        )
    if state.frozen_stages != training.recipe.frozen_stages:
        raise CheckpointIncompatible(
            f"the checkpoint is of another training: {state.frozen_stages} stages were frozen in it"
        )
    load_weights(training.model, state)
    try:
        training.optimizer.restore(state.moments)
    except ValueError as error:
        raise CheckpointIncompatible(
            f"the checkpoint is of another training: {error}"
        ) from error
    training.progress = state.progress


def load_weights(model: Backbone, state: FitState) -> None:
    """Give a model, which has its pretrained weights, those that a training moved.

    Raises:
        CheckpointIncompatible: They are another network's.
    """
    trained = adaptation.state_of(model, state.frozen_stages, frozen=False)
    same = trained.keys() == state.weights.keys() and all(
        trained[name].shape == value.shape for name, value in state.weights.items()
    )
    if not same:
        raise CheckpointIncompatible(
            f"the checkpoint is not of {model.name} with {len(model.classes)} classes"
        )
    if features.digest(model, state.frozen_stages) != state.frozen_sha256:
        raise CheckpointIncompatible(
            f"the checkpoint's training began with other weights of {model.name} than these"
        )
    model.network.load_state_dict(dict(state.weights), strict=False)
