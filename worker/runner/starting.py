"""The beginning of a trial's training: data, model, and the state that it goes on from."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from trimtab.contract.leases import Lease
from trimtab.contract.records import DataFeatures
from worker.data import TaskData, with_validation
from worker.pipe_messages import RunTrial, SavedState
from worker.runner import costs, refit_lease
from worker.runner.memory_watch import MemoryWatch
from worker.runner.progress import ProgressReporter
from worker.runner.resources import Resources
from worker.runner.thread_counts import ChoiceOfThreads
from worker.training.device.ranks import Ranks
from worker.training.device.threads import AsTorchSays
from worker.training.errors import CheckpointError
from worker.training.loop.distillation import Teacher
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.loop.state import FitState
from worker.training.loop.training import Training
from worker.training.model import heads
from worker.training.model.backbones import Backbone

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartedTraining:
    """A training that is ready for its next epoch, with its data, its memory watch and its choice of threads.

    Its data are told with what they look like to the backbone, where that is known.
    """

    training: Training
    seen: TaskData
    watch: MemoryWatch
    threads: ChoiceOfThreads
    features: DataFeatures | None = None


def start_training(
    resources: Resources,
    order: RunTrial,
    progress: ProgressReporter,
    *,
    place: int = 0,
    member: StartedTraining | None = None,
) -> StartedTraining:
    """Load data and model, and resume from the first state that fits.

    Args:
        resources: The resources of the training process.
        order: The order to run the trial.
        progress: The reporter of the trial's progress.
        place: The number of the model's place in the backbone cache, from 0.
        member: A training of the group that this one joins; its data and features are shared.

    Raises:
        Exception: Data, weights or model cannot be loaded, or the training cannot begin.
    """
    order = resources.admit(order)
    lease = order.lease
    plan = refit_lease.plan_of(order)
    with progress.busy():
        costs.refuse_untold(lease, resources.device)
        seen = _seen(resources, lease) if member is None else member.seen
        watch = MemoryWatch(
            lease,
            seen,
            resources.device,
            resources.memory_bytes,
            order.memory,
            alone=member is None,
        )
        threads = _choice_of_threads(resources, lease, seen)
        features = None if member is None else member.features

        # Each try takes the model anew, since a state that does not fit may have been loaded in part.
        def start(state: FitState | None) -> Training:
            nonlocal features
            model = _model(resources, lease, seen, place)
            if not order.resume:
                costs.refuse_violating(model, lease.constraints)
            if member is None and lease.kind == "trial":
                # While the weights are the pretrained ones.
                features = resources.statistics.of(model, seen, resources.device)
            request = TrainingRequest(
                model,
                seen,
                lease.recipe,
                seed=lease.seed,
                device=resources.device,
                resume=state,
                features_cache=resources.features,
                micro_batch_size=watch.first_micro_batch_size,
                teacher=_teacher(resources, order, seen),
                threads=threads,
                epochs=plan.epochs,
                adaptation_weight=plan.adaptation_weight,
                each_batch=progress.batch,
                ranks=_ranks(resources, lease),
            )
            return begin(request, beside=None if member is None else member.training)

        training, resumed = _from_the_first_that_fits(order, start)
        # Those that share a member's features have its layers too, and so its latency.
        if member is None and not order.resume:
            costs.refuse_slow(seen, training, lease.constraints)
        if resources.followers is not None and training.learner.ranks is not None:
            # They resume from what this one has, and find on disk what it has made of the data.
            same = order.model_copy(update={"resume": resumed})
            resources.followers.begin(same, training)
        return StartedTraining(training, seen, watch, threads, features)


def _seen(resources: Resources, lease: Lease) -> TaskData:
    """Open the data that a lease trains on: a refit's are train and validation together."""
    seen = resources.load(lease)
    return with_validation(seen, resources.cache_dir) if lease.kind == "refit" else seen


def _choice_of_threads(resources: Resources, lease: Lease, seen: TaskData) -> ChoiceOfThreads:
    """Return the choice of threads for a trial, which is that of trials with the same network and inputs."""
    recipe = lease.recipe
    network = (lease.model.backbone, seen.train.inputs.shape[1:], recipe.precision)
    frozen = (recipe.frozen_stages, recipe.unfreeze_every)
    # Batches of nearly one size take the same number; else each size that the sampler proposes would be tried.
    sizes = (recipe.batch_size.bit_length(), recipe.micro_batch_size)
    return resources.threads.of(
        features=("features", *network, *frozen, seen.key),
        steps=("steps", *network, *frozen, *sizes, recipe.optimizer, recipe.lora_rank),
    )


def _from_the_first_that_fits(
    order: RunTrial, start: Callable[[FitState | None], Training]
) -> tuple[Training, tuple[SavedState, ...]]:
    """Return the training, and the state that it has resumed from."""
    for saved in order.resume:
        try:
            return start(FitState.load(saved.path)), (saved,)
        except CheckpointError as error:
            log.warning("the checkpoint of step %d cannot be used: %s", saved.step, error)
    return start(None), ()


def follow_training(
    resources: Resources, order: RunTrial, progress: ProgressReporter, ranks: Ranks
) -> Training:
    """Begin a trial's training on one of its further devices, as the first one has begun it (`start_training`).

    Args:
        resources: The resources of this process.
        order: The order to run the trial, with the one state that the first device has resumed from, if it has.
        progress: The reporter of the trial's progress.
        ranks: All processes of the training.

    Raises:
        Exception: Data, weights or model cannot be loaded, or the training cannot begin.
    """
    order = resources.admit(order)
    lease = order.lease
    plan = refit_lease.plan_of(order)
    seen = _seen(resources, lease)
    known = MemoryWatch(lease, seen, resources.device, resources.memory_bytes, order.memory)
    request = TrainingRequest(
        _model(resources, lease, seen),
        seen,
        lease.recipe,
        seed=lease.seed,
        device=resources.device,
        resume=FitState.load(order.resume[0].path) if order.resume else None,
        features_cache=resources.features,
        micro_batch_size=known.first_micro_batch_size,
        teacher=_teacher(resources, order, seen),
        # The first device tells the number of threads with each epoch.
        threads=AsTorchSays(),
        epochs=plan.epochs,
        adaptation_weight=plan.adaptation_weight,
        each_batch=progress.batch,
        ranks=ranks,
    )
    return begin(request)


def _ranks(resources: Resources, lease: Lease) -> Ranks | None:
    """Return the processes that train a lease; None where the first device alone does."""
    if resources.followers is None or lease.devices_per_trial < 2:
        return None
    return resources.followers.ranks


def _model(resources: Resources, lease: Lease, seen: TaskData, place: int = 0) -> Backbone:
    return resources.backbone_cache.take(
        lease.model,
        classes=seen.outputs,
        seed=lease.seed,
        recipe=lease.recipe,
        head=heads.of(lease.recipe, seen.kind),
        place=place,
    )


def _teacher(resources: Resources, order: RunTrial, seen: TaskData) -> Teacher | None:
    if order.teacher is None:
        return None
    return Teacher(order.teacher, seen.classes, resources.own)
