"""The training loop: `for epoch in fit(...)`. To stop it, stop asking."""

import logging
from collections.abc import Callable, Iterator

import torch

from trimtab.contract.recipe import Recipe
from worker.data import TaskData
from worker.training.augment import augmentation
from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import dtype_of, precision_of
from worker.training.features import features
from worker.training.features.feature_cache import FeatureCache
from worker.training.features.features import Inputs
from worker.training.loop import distillation, linear_head
from worker.training.loop.distillation import Teacher
from worker.training.loop.epochs import EpochResult, epochs_of
from worker.training.loop.state import FitState
from worker.training.loop.step import Learner
from worker.training.loop.training import Training, origin
from worker.training.model import freezing
from worker.training.model.backbones import Backbone
from worker.training.model.lora import LowRank
from worker.training.objective import objectives
from worker.training.optim import param_groups
from worker.training.optim.optimizers import Optimizer
from worker.training.optim.weight_averages import Averages

log = logging.getLogger(__name__)


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

    Arguments as those of `begin`.

    Raises:
        CheckpointIncompatible: `resume` is of another training.
        Diverged: From the iterator: a loss is not finite.
        RecipeUnfit: As `begin`.
    """
    training = begin(
        model,
        data,
        recipe,
        seed=seed,
        device=device,
        resume=resume,
        features_cache=features_cache,
        micro_batch_size=micro_batch_size,
        teacher=teacher,
        each_batch=each_batch,
    )
    return epochs_of(training)


def begin(
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
    beside: Training | None = None,
) -> Training:
    """Begin what `fit` does, to be carried on by `next_epochs`.

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
        beside: A training that takes company, whose data and features are those of this one; its recipe may differ in
            what a head learns by, and its model shares all but the head.

    Raises:
        CheckpointIncompatible: `resume` is of another training.
        RecipeUnfit: The backbone does not take what the recipe makes of the data.
    """
    freezing.freeze(model, recipe)
    model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - both in one walk, which torch's types do not know
    model.try_on(torch.from_numpy(data.train.images[:2]).to(device))
    if beside is not None and origin(model, recipe) == beside.frozen_sha256:
        inputs = beside.learner.inputs.under(model.head)
    else:
        # Also where the weights' file was replaced since the other one began.
        inputs = features.inputs_of(
            model, data, recipe, device, cache=features_cache, each_batch=each_batch
        )
    low_rank = freezing.low_rank_of(model, recipe, seed)
    objective = objectives.of(data, recipe)
    lessons = distillation.lessons_of(
        teacher, data, recipe, device, cache=features_cache, each_batch=each_batch
    )
    training = Training(
        Learner(
            model=model,
            optimizer=_optimizer(model, recipe, inputs, low_rank),
            objective=objective,
            recipe=recipe,
            device=device,
            inputs=inputs,
            averages=Averages(model, recipe),
            micro_batches=_micro_batches(model, recipe, micro_batch_size),
            lessons=lessons,
            each_batch=each_batch,
            plain=linear_head.of(inputs, objective, recipe, lessons),
            augmentation=augmentation.of(recipe),
        ),
        low_rank=low_rank,
        seed=seed,
        frozen_sha256=origin(model, recipe),
        moving=freezing.moving_state(model, recipe, low_rank),
    )
    if resume is not None:
        training.restore(resume)
    return training


def _optimizer(
    model: Backbone, recipe: Recipe, inputs: Inputs, low_rank: LowRank | None
) -> Optimizer:
    device = inputs.train.device
    in_half = dtype_of(recipe.precision, device) == torch.float16
    if recipe.precision not in ("auto", precision_of(recipe.precision, device)):
        log.warning("%s is not built for %s: it computes in float32", device, recipe.precision)
    return Optimizer(
        param_groups.of_backbone(model, recipe, low_rank),
        recipe,
        low_rank=low_rank,
        scales_loss_on=device if in_half and not inputs.train.full_precision else None,
    )


def _micro_batches(model: Backbone, recipe: Recipe, known: int | None) -> MicroBatches:
    largest = [size for size in (recipe.micro_batch_size, known) if size is not None]
    needs_two = bool(freezing.moving_statistics(model, recipe, recipe.epochs - 1))
    return MicroBatches(min(largest, default=None), least=2 if needs_two else 1)
