"""The training loop: `for epoch in fit(...)`. To stop it, stop asking."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trimtab.contract.recipe import Recipe
from worker.data import TaskData
from worker.training import (
    adaptation,
    augmentation,
    distillation,
    features,
    groups,
    objectives,
    plain_head,
    seeding,
)
from worker.training.averages import Averages, estimate_statistics
from worker.training.backbones import Backbone
from worker.training.distillation import Teacher
from worker.training.errors import CheckpointIncompatible, Diverged
from worker.training.evaluate import Scores, evaluate
from worker.training.feature_cache import FeatureCache
from worker.training.lora import LowRank
from worker.training.optim import Optimizer
from worker.training.placement import dtype_of, precision_of
from worker.training.portions import Portions
from worker.training.state import FitState, Progress
from worker.training.step import Learner, train_epoch

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Training:
    """A training that is going on."""

    learner: Learner
    low_rank: LowRank | None
    seed: int
    frozen_sha256: str
    moving: Mapping[str, Tensor]
    progress: Progress = field(default_factory=Progress)

    @property
    def ended(self) -> bool:
        """Whether the recipe asks for no further epoch."""
        recipe = self.learner.recipe
        impatient = 0 < recipe.early_stopping_patience <= self.progress.stale
        return self.progress.epochs >= recipe.epochs or impatient


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one epoch brought.

    Attributes:
        epoch: From 0.
        value: What trials are compared by, on the validation split after it.
        best_value: The best of all epochs so far.
        train_loss: Mean over the epoch, while the weights moved.
        metrics: Everything measured on the validation split after it, the mean `loss` included.
        seconds: For training and validation.
        best: Whether this is the best epoch so far; then its state is the one to keep for the final evaluation.
        last: Whether no other follows it.
    """

    epoch: int
    value: float
    best_value: float
    train_loss: float
    metrics: Mapping[str, float]
    seconds: float
    best: bool
    last: bool
    _training: _Training = field(repr=False, compare=False)

    @property
    def micro_batch_size(self) -> int | None:
        """How many pictures are computed at once; None is whole batches."""
        return self._training.learner.portions.largest

    @property
    def nbytes(self) -> int:
        """How large its whole state is."""
        learner = self._training.learner
        held = learner.optimizer.nbytes + learner.averages.nbytes
        return sum(value.nbytes for value in self._training.moving.values()) + held

    def state(self, *, whole: bool = True, copy: bool = True) -> FitState:
        """Return everything that the next epoch depends on.

        Args:
            whole: Without it the optimizer's moments are left out: enough for evaluation, too little to carry on from.
            copy: Without it weights that are on the CPU are the model's own: to be used before the model is again.

        Raises:
            RuntimeError: The next epoch has begun, and the weights are no longer this one's.
        """
        if self._training.progress.epochs != self.epoch + 1:
            raise RuntimeError(
                "the state of an epoch is to be taken before the next is asked for"
            )
        return _capture(self._training, whole=whole, copy=copy)


def fit(
    model: Backbone,
    data: TaskData,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    resume: FitState | None = None,
    features_cache: FeatureCache | None = None,
    micro_batch_size: int | None = None,
    teacher: Teacher | None = None,
    each_batch: Callable[[], object] = lambda: None,
) -> Iterator[EpochResult]:
    """Adapt a model to a task, an epoch at each `next`, until the recipe or its early stopping ends it.

    On a CPU the same seed gives the same curve bit by bit, and a training resumed from any epoch's state ends
    with the weights of the uninterrupted one.

    Args:
        model: Fresh from `backbones.build`; trained in place.
        data: What it learns from and is measured by.
        recipe: How.
        seed: Of data order, augmentation and dropout.
        device: Where.
        resume: State to carry on from, of the same model, recipe and seed.
        features_cache: Where to keep what frozen stages make of the data; None computes it for this training alone.
        micro_batch_size: More pictures at once are known not to fit into memory; the recipe may ask for fewer.
        teacher: Whose answers are learned beside the labels.
        each_batch: Called before every batch; what it raises ends the training.

    Raises:
        CheckpointIncompatible: `resume` is of another training.
        Diverged: From the iterator: a loss is not finite.
    """
    adaptation.freeze(model, recipe)
    model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - both in one walk, which torch's types do not know
    inputs = features.inputs_of(
        model, data, recipe, device, cache=features_cache, each_batch=each_batch
    )
    low_rank = adaptation.low_rank_of(model, recipe, seed)
    objective = objectives.of(data, recipe)
    lessons = distillation.lessons_of(
        teacher, data, recipe, device, cache=features_cache, each_batch=each_batch
    )
    training = _Training(
        Learner(
            model=model,
            optimizer=_optimizer(model, recipe, device, low_rank),
            objective=objective,
            recipe=recipe,
            device=device,
            inputs=inputs,
            averages=Averages(model, recipe),
            portions=_portions(model, recipe, micro_batch_size),
            lessons=lessons,
            each_batch=each_batch,
            plain=plain_head.of(inputs, objective, recipe, lessons),
            augmentation=augmentation.of(recipe),
        ),
        low_rank=low_rank,
        seed=seed,
        frozen_sha256=_origin(model, recipe),
        moving=adaptation.moving_state(model, recipe, low_rank),
    )
    if resume is not None:
        _restore(training, resume)
    return _epochs(training)


def _optimizer(
    model: Backbone, recipe: Recipe, device: torch.device, low_rank: LowRank | None
) -> Optimizer:
    dtype = dtype_of(recipe.precision, device)
    if recipe.precision not in ("auto", precision_of(recipe.precision, device)):
        log.warning("%s is not built for %s: it computes in float32", device, recipe.precision)
    return Optimizer(
        groups.of_backbone(model, recipe, low_rank),
        recipe,
        low_rank=low_rank,
        scales_loss_on=device if dtype == torch.float16 else None,
    )


def _portions(model: Backbone, recipe: Recipe, known: int | None) -> Portions:
    largest = [size for size in (recipe.micro_batch_size, known) if size is not None]
    needs_two = bool(adaptation.moving_statistics(model, recipe, recipe.epochs - 1))
    return Portions(min(largest, default=None), least=2 if needs_two else 1)


def _epochs(training: _Training) -> Iterator[EpochResult]:
    learner = training.learner
    objective = learner.objective
    while not training.ended:
        began = time.perf_counter()
        epoch = training.progress.epochs
        learner.averages.resume()
        seed = seeding.derive(training.seed, "epoch", epoch)
        with plain_head.few_threads(learner.plain):
            with seeding.seeded(seed, learner.device):
                train_loss = train_epoch(learner, epoch)
            scores = _measure(learner, epoch)
        value = scores.metrics[objective.metric]
        if not (math.isfinite(scores.loss) and math.isfinite(value)):
            raise Diverged(epoch, "validation")
        training.progress = training.progress.after(
            value,
            scores.loss,
            min_gain=learner.recipe.early_stopping_min_gain,
            direction=objective.direction,
        )
        yield EpochResult(
            epoch=epoch,
            value=value,
            best_value=training.progress.best_value,
            train_loss=train_loss,
            metrics=scores.metrics,
            seconds=time.perf_counter() - began,
            best=training.progress.best_epoch == epoch,
            last=training.ended,
            _training=training,
        )


def _measure(learner: Learner, epoch: int) -> Scores:
    """Score the weights that this epoch has come to."""
    inputs = learner.inputs
    # A layer has no modes: setting those of the whole network takes longer than measuring it.
    model = learner.model if learner.plain is None else learner.plain.layer

    def scores() -> Scores:
        return evaluate(
            model,
            inputs.validation,
            learner.objective,
            inputs.forward,
            precision=learner.recipe.precision,
            portions=learner.portions,
            each_batch=learner.each_batch,
        )

    def goodness(found: Scores) -> float:
        value = found.metrics[learner.objective.metric]
        return value if learner.objective.direction == "maximize" else -value

    found, weight = learner.averages.show(
        epoch,
        estimate=lambda: estimate_statistics(
            learner.model,
            learner.recipe,
            inputs.train,
            inputs.forward,
            epoch=epoch,
            portions=learner.averages.portions,
        ),
        measure=scores,
        goodness=goodness,
    )
    extra = {} if weight is None else {"adaptation_weight": weight}
    return Scores({**found.metrics, **extra}, found.count)


def _capture(training: _Training, *, whole: bool, copy: bool) -> FitState:
    learner = training.learner
    return FitState(
        seed=training.seed,
        frozen_stages=adaptation.still_stages(learner.model, learner.recipe),
        frozen_sha256=training.frozen_sha256,
        optimizer=learner.recipe.optimizer,
        progress=training.progress,
        weights={
            name: tensor.detach().to("cpu", copy=copy)
            for name, tensor in training.moving.items()
        },
        moments=learner.optimizer.tensors() if whole else {},
        averages=learner.averages.tensors() if whole else {},
    )


def _restore(training: _Training, state: FitState) -> None:
    model, recipe = training.learner.model, training.learner.recipe
    if state.seed != training.seed:
        raise CheckpointIncompatible(
            f"the checkpoint's seed is {state.seed}, not {training.seed}"
        )
    if state.optimizer != recipe.optimizer:
        raise CheckpointIncompatible(
            f"the checkpoint is of {state.optimizer}, the recipe asks for {recipe.optimizer}"
        )
    if state.frozen_stages != adaptation.still_stages(model, recipe):
        raise CheckpointIncompatible(
            f"the checkpoint is of another training: {state.frozen_stages} stages were frozen in it"
        )
    _load(model, state, recipe, training.low_rank)
    try:
        training.learner.optimizer.restore(state.moments)
    except ValueError as error:
        raise CheckpointIncompatible(
            f"the checkpoint is of another training: {error}"
        ) from error
    training.learner.averages.restore(state.averages)
    training.progress = state.progress


def load_weights(model: Backbone, state: FitState, recipe: Recipe) -> None:
    """Give a model, which has its pretrained weights, those that a training moved; those of LoRA are merged.

    Raises:
        CheckpointIncompatible: They are another network's.
    """
    _load(model, state, recipe, adaptation.low_rank_of(model, recipe, state.seed))


def _load(model: Backbone, state: FitState, recipe: Recipe, low_rank: LowRank | None) -> None:
    moving = adaptation.moving_state(model, recipe, low_rank)
    same = moving.keys() == state.weights.keys() and all(
        moving[name].shape == value.shape for name, value in state.weights.items()
    )
    if not same:
        raise CheckpointIncompatible(
            f"the checkpoint is not of {model.name} with a head of this kind and {len(model.classes)} outputs"
        )
    if _origin(model, recipe) != state.frozen_sha256:
        raise CheckpointIncompatible(
            f"the checkpoint's training began with other weights of {model.name} than these"
        )
    if low_rank is not None:
        low_rank.load(state.weights)
    model.network.load_state_dict(dict(state.weights), strict=False)


def _origin(model: Backbone, recipe: Recipe) -> str:
    """Hash the pretrained weights that a training's state does without: all that LoRA, L2-SP and WiSE-FT build upon."""
    builds_on_all = recipe.lora_rank or recipe.l2_sp or recipe.adaptation_grid
    stages = len(model.stages) if builds_on_all else adaptation.still_stages(model, recipe)
    return features.digest(model, stages)
