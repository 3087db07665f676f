"""The training loop. To stop it, stop asking.

request = TrainingRequest(model, data, recipe, seed=0, device=torch.device("cpu"))
for epoch in fit(request):
    print(epoch.epoch, epoch.value)
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field

import torch

from trimtab.contract.recipe import Recipe
from worker.data import TaskData
from worker.training.augment import augmentation
from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import dtype_of, precision_of
from worker.training.device.ranks import Ranks
from worker.training.device.threads import AsTorchSays, ThreadChoice, Threads, computing_on
from worker.training.errors import Interrupted, NothingToChooseBy
from worker.training.features import features
from worker.training.features.feature_cache import FeatureCache
from worker.training.features.features import Inputs
from worker.training.loop import choice, distillation, linear_head, trying
from worker.training.loop.distillation import Lessons, Teacher
from worker.training.loop.epochs import EpochResult, epochs_of
from worker.training.loop.following import begin_together
from worker.training.loop.state import FitState
from worker.training.loop.step import Learner
from worker.training.loop.training import Training, origin
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing
from worker.training.model.lora import LowRank
from worker.training.objective import objectives
from worker.training.optim import param_groups
from worker.training.optim.optimizers import Optimizer
from worker.training.optim.weight_averages import Averages

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRequest:
    """What to train, and on what: the first five are required.

    Attributes:
        model: The network, fresh from `backbones.build`; it is trained in place.
        data: The splits that it learns from and is measured by; with an empty validation split, nothing is measured
            (`with_validation`).
        recipe: Every hyperparameter.
        seed: The seed of data order, augmentation and dropout.
        device: The device that it is trained on.
        resume: State to carry on from, of the same model, recipe and seed; None begins anew.
        features_cache: Keeps what frozen stages make of the data; None computes it for this training alone.
        micro_batch_size: More pictures at once are known not to fit into memory; the recipe may ask for fewer. None:
            nothing is known.
        teacher: A model whose answers are learned beside the labels; None: the labels alone.
        threads: Decides how many threads compute; a training that is resumed keeps its numbers.
        epochs: The number of epochs after which it ends, in the schedule of all that the recipe has; None: all.
        adaptation_weight: The point between pretrained and trained weights to take in place of the best one of
            `adaptation_grid`; None: the best one on the validation split.
        each_batch: Called before every batch; what it raises ends the training. After Interrupted, the training's state
            says how far it is.
        ranks: The processes that train together, each on a device of its own with a request of its own; all but the first
            call `following.follow`. A small head on features is trained by the first one alone.
    """

    model: Backbone
    data: TaskData
    recipe: Recipe
    _: KW_ONLY
    seed: int
    device: torch.device
    resume: FitState | None = None
    features_cache: FeatureCache | None = None
    micro_batch_size: int | None = None
    teacher: Teacher | None = None
    threads: ThreadChoice = field(default_factory=AsTorchSays)
    epochs: int | None = None
    adaptation_weight: float | None = None
    each_batch: Callable[[], object] = lambda: None
    ranks: Ranks | None = None


def fit(request: TrainingRequest) -> Iterator[EpochResult]:
    """Adapt a model to a task, an epoch at each `next`, until the recipe or its early stopping ends it.

    On a CPU the same seed and the same number of threads give the same curve bit by bit, and a training resumed from
    any epoch's state, or from one within an epoch, ends with the weights of the uninterrupted one.

    Raises:
        CheckpointIncompatible: `request.resume` is of another training.
        Diverged: A loss is not finite; raised by the iterator.
        RecipeUnfit: The backbone does not take what the recipe makes of the data.
        RankFailed: Another rank could not begin; raised by the iterator where it fails later.
    """
    training = begin(request)
    if training.learner.ranks is not None:
        begin_together(training, training.learner.ranks)
    return epochs_of(training)


def begin(request: TrainingRequest, *, beside: Training | None = None) -> Training:
    """Begin what `fit` does, to be carried on by `next_epochs`.

    Args:
        request: The training to begin.
        beside: A training that opens a group (`Training.may_group`); its data and features are used. The request's
            recipe may differ from its recipe in fields of scope `head`, and the request's model shares all but the head
            with its model.

    Raises:
        CheckpointIncompatible: `request.resume` is of another training.
        RecipeUnfit: The backbone does not take what the recipe makes of the data.
        NothingToChooseBy: The recipe chooses by the validation split, and there is none.
    """
    rule = choice.rule_of(request.data, request.recipe, request.epochs)
    if _chooses_by_nothing(request):
        raise NothingToChooseBy
    freezing = Freezing(request.model, request.recipe)
    freezing.freeze()
    # Channels last, where the input layer says so: convolutions then need not lay out every batch anew.
    request.model.to(request.device, memory_format=request.model.input.memory_format)  # pyright: ignore[reportCallIssue] - both in one walk, which torch's types do not know
    request.model.try_on(torch.from_numpy(request.data.train.inputs[:2]).to(request.device))
    # Before LoRA and the optimizer begin, while all weights are the pretrained ones.
    freezing.redraw(request.seed)
    frozen_sha256 = origin(freezing)
    low_rank = freezing.low_rank(request.seed)
    count = _feature_threads(request, freezing, beside)
    with computing_on(count):
        inputs = _inputs(request, freezing, frozen_sha256, beside)
        learner = _learner(request, freezing, inputs, low_rank)
    training = Training(
        learner,
        low_rank=low_rank,
        seed=request.seed,
        frozen_sha256=frozen_sha256,
        moving=freezing.moving(low_rank),
        threads=Threads(count, count),
        rule=rule,
    )
    if request.resume is not None:
        training.restore(request.resume)
    _choose_threads(request, training)
    return training


def _chooses_by_nothing(request: TrainingRequest) -> bool:
    is_open = request.recipe.adaptation_grid and request.adaptation_weight is None
    return bool(is_open) and not len(request.data.validation)


def _feature_threads(
    request: TrainingRequest, freezing: Freezing, beside: Training | None
) -> int:
    threads = request.threads
    if request.resume is not None:
        return min(request.resume.threads.features, threads.most)
    if beside is not None:
        return beside.threads.features
    known = threads.known("features")
    if known is not None:
        return known
    attempt = features.attempt(freezing, request.data, request.device)
    return threads.most if attempt is None else threads.choose("features", attempt)


def _choose_threads(request: TrainingRequest, training: Training) -> None:
    """Give a training the number of threads that its steps are computed with; a small head has one thread anyway."""
    threads, known = request.threads, request.threads.known("steps")
    if request.resume is not None:
        # Another machine may have fewer cores. Threads that wait for a core are worse than other last bits.
        training.use_threads(min(request.resume.threads.steps, threads.most))
    elif trying.tells(training):
        if known is None:
            trying.choose_threads(training, threads)
        else:
            training.use_threads(known)


def _inputs(
    request: TrainingRequest, freezing: Freezing, frozen_sha256: str, beside: Training | None
) -> Inputs:
    # Where the weights' file was replaced since the other training began, its features are another network's; and a
    # training that resumes may have had features that another number of threads has computed.
    is_same = (
        beside is not None
        and frozen_sha256 == beside.frozen_sha256
        and (
            request.resume is None or request.resume.threads.features == beside.threads.features
        )
    )
    if beside is not None and is_same:
        return beside.learner.inputs.under(request.model.head)
    return features.inputs_of(
        freezing,
        request.data,
        request.device,
        cache=request.features_cache,
        each_batch=request.each_batch,
    )


def _learner(
    request: TrainingRequest, freezing: Freezing, inputs: Inputs, low_rank: LowRank | None
) -> Learner:
    recipe = request.recipe
    objective = objectives.of(request.data, recipe)
    lessons = _lessons(request)
    plain = linear_head.of(inputs, objective, recipe, lessons)
    return Learner(
        freezing=freezing,
        optimizer=_optimizer(freezing, inputs, low_rank),
        objective=objective,
        device=request.device,
        inputs=inputs,
        averages=Averages(freezing, request.adaptation_weight),
        micro_batches=_micro_batches(freezing, request.micro_batch_size),
        lessons=lessons,
        each_batch=request.each_batch if plain is None else _patient(request.each_batch),
        plain=plain,
        augmentation=augmentation.of(recipe, request.data.modality, request.model.input.card()),
        # A step of a plain head takes microseconds, and to speak of it with others takes longer.
        ranks=request.ranks if plain is None else None,
    )


def _patient(each_batch: Callable[[], object]) -> Callable[[], object]:
    """Wait for the end of the epoch where one is asked to leave: an epoch of a head is over soon."""

    def call() -> None:
        with suppress(Interrupted):
            each_batch()

    return call


def _lessons(request: TrainingRequest) -> Lessons | None:
    return distillation.lessons_of(
        request.teacher,
        request.data,
        request.recipe,
        request.device,
        taken=request.model.input.card(),
        cache=request.features_cache,
        each_batch=request.each_batch,
    )


def _optimizer(freezing: Freezing, inputs: Inputs, low_rank: LowRank | None) -> Optimizer:
    recipe, device = freezing.recipe, inputs.train.device
    # Small gradients vanish in float16 unless the loss is scaled up; bfloat16 has the range of float32.
    in_half = dtype_of(recipe.precision, device) == torch.float16
    if recipe.precision not in ("auto", precision_of(recipe.precision, device)):
        log.warning("%s is not built for %s: it computes in float32", device, recipe.precision)
    return Optimizer(
        param_groups.of_backbone(freezing, low_rank),
        recipe,
        low_rank=low_rank,
        scales_loss_on=device if in_half and not inputs.train.full_precision else None,
    )


def _micro_batches(freezing: Freezing, known: int | None) -> MicroBatches:
    recipe = freezing.recipe
    largest = [size for size in (recipe.micro_batch_size, known) if size is not None]
    # Batch normalisation in training needs two samples for a variance. The last epoch trains the most stages, so that
    # it has every normalisation that any epoch moves.
    needs_two = bool(freezing.moving_statistics(recipe.epochs - 1))
    return MicroBatches(min(largest, default=None), least=2 if needs_two else 1)
