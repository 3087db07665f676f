"""One trial in the runner: from the state that it starts or resumes from to its end."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from trimtab.contract.leases import Completed, Lease, Pruned, Report
from trimtab.contract.memory import MemoryFinding
from trimtab.contract.records import DataFeatures
from worker.data import TaskData, with_validation
from worker.pipe_messages import Began, EpochDone, RunTrial
from worker.runner import costs, refit_lease, trial_record
from worker.runner.ending import TrialEnding
from worker.runner.memory_watch import MemoryWatch
from worker.runner.progress import Cancelled, Finished, Paused, ProgressReporter
from worker.runner.resources import Resources
from worker.runner.thread_counts import ChoiceOfThreads
from worker.training.errors import CheckpointError
from worker.training.loop import trying
from worker.training.loop.distillation import Teacher
from worker.training.loop.epochs import EpochResult
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.loop.state import FitState
from worker.training.loop.training import Training
from worker.training.model import heads

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
        teacher = None
        if order.teacher is not None:
            teacher = Teacher(order.teacher, seen.classes, resources.own)

        threads = _choice_of_threads(resources, lease, seen)
        features = None if member is None else member.features

        # Each try takes the model anew, since a state that does not fit may have been loaded in part.
        def start(state: FitState | None) -> Training:
            nonlocal features
            model = resources.backbone_cache.take(
                lease.model,
                classes=seen.outputs,
                seed=lease.seed,
                recipe=lease.recipe,
                head=heads.of(lease.recipe, seen.kind),
                place=place,
            )
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
                teacher=teacher,
                threads=threads,
                epochs=plan.epochs,
                adaptation_weight=plan.adaptation_weight,
                each_batch=progress.batch,
            )
            return begin(request, beside=None if member is None else member.training)

        training = _from_the_first_that_fits(order, start)
        # Those that share a member's features have its layers too, and so its latency.
        if member is None and not order.resume:
            costs.refuse_slow(seen, training, lease.constraints)
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
) -> Training:
    for saved in order.resume:
        try:
            return start(FitState.load(saved.path))
        except CheckpointError as error:
            log.warning("the checkpoint of step %d cannot be used: %s", saved.step, error)
    return start(None)


@dataclass(frozen=True)
class PartialEpoch:
    """An epoch that is left between two batches, for the writer of checkpoints."""

    training: Training
    kept: bool = False
    last: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the training's whole state."""
        return self.training.nbytes

    def state(self, *, whole: bool = True, copy: bool = True) -> FitState:
        """Return the training's state (`Training.state`)."""
        return self.training.state(whole=whole, copy=copy)


class TrialRun:
    """A trial that is trained epoch by epoch, and obeys the verdict on each epoch.

    Args:
        resources: The resources of the training process.
        order: The order to run the trial.
        started: The trial's training.
        ending: The object that ends the trial.
        place: The number of the model's place in the backbone cache, from 0.

    Attributes:
        may_group: Whether other trials may be trained in a group with this one.
    """

    def __init__(
        self,
        resources: Resources,
        order: RunTrial,
        started: StartedTraining,
        ending: TrialEnding,
        place: int,
    ) -> None:
        lease = order.lease
        self.started = started
        self.place = place
        self.may_group = (
            lease.kind == "trial"
            # Where its memory counts, a training has the device for itself: of a group nothing tells each one's share.
            and "memory_bytes" not in lease.costs
            and started.training.may_group
            and resources.backbone_cache.has_places(lease.model)
        )
        self._resources = resources
        self._lease = lease
        self._ending = ending
        self._progress = ProgressReporter(resources.channel, lease.lease_id)
        self._epoch: EpochResult | None = None
        self._is_introduced = False
        # One that was resumed has kept them before.
        self._constraints = () if order.resume else lease.constraints

    @property
    def has_ended(self) -> bool:
        """Whether the agent was told how the trial ended."""
        return self._ending.has_ended

    def begin(self, progress: ProgressReporter) -> None:
        """Introduce the trial as soon as its first batch has been trained on: then its study's probe has passed.

        One whose attempt before this died between its last epoch and its outcome has nothing left to train, and ends.
        """
        if self.started.training.ended:
            self._introduce()
            self._complete()
        else:
            progress.after_first_batch(self._introduce)

    def _introduce(self) -> None:
        """Tell the agent, once, what the trial begins with, and see that its first batch kept the bounds on memory."""
        if self._is_introduced:
            return
        self._is_introduced = True
        record = trial_record.record_of(
            self.started.seen,
            self._lease.recipe,
            self._resources.device,
            freezing=self.started.training.learner.freezing,
            first_micro_batch_size=self.started.watch.first_micro_batch_size,
            threads=trying.threads_of(self.started.training),
            features=self.started.features,
        )
        trial_record.log_left_out(
            f"{self._lease.study} trial {self._lease.trial_number}", record
        )
        began = Began(lease_id=self._lease.lease_id, record=record, may_group=self.may_group)
        self._resources.channel.say(began)
        costs.refuse_large(
            self.started.watch.peak_bytes,
            self.started.training.learner.model,
            self._constraints,
        )

    def report(self, epoch: EpochResult | Exception) -> None:
        """Tell the agent of an epoch, or end the trial by the exception that ended the epoch."""
        with self._ending.guard():
            if isinstance(epoch, Finished) and self.started.training.progress.epochs:
                self._complete()
                return
            if isinstance(epoch, Paused):
                self._ending.writer.save(PartialEpoch(self.started.training))
            if isinstance(epoch, Exception):
                raise epoch
            self._epoch = epoch
            self._introduce()
            finding = self.started.watch.news(epoch.micro_batch_size)
            self._resources.channel.say(
                EpochDone(
                    lease_id=self._lease.lease_id,
                    report=_shape(epoch, finding),
                    newest=self._ending.writer.newest,
                    best=self._ending.writer.best,
                    finding=finding,
                )
            )
            # After the message: the agent reports the epoch to the service while threads are tried, and the state is
            # copied and written. In that order: who resumes from the state goes on with the new number of threads.
            self._try_threads(epoch)
            self._ending.writer.offer(epoch)

    def obey_verdict(self) -> None:
        """Wait for the verdict on the last epoch, and continue or end as it says."""
        epoch = self._epoch
        if epoch is None or self.has_ended:
            return
        with self._ending.guard():
            match self._resources.channel.verdict(self._lease.lease_id, epoch.epoch):
                case "continue":
                    if epoch.last:
                        self._complete()
                case "stop":
                    self._ending.end(Pruned())
                case "finish":
                    self._complete()
                case "cancel":
                    raise Cancelled
                case "pause":
                    self._ending.writer.save(epoch)
                    self._ending.end(None)

    def _try_threads(self, epoch: EpochResult) -> None:
        """Choose the number of threads again, if the epoch took much longer or shorter than those before."""
        training, threads = self.started.training, self.started.threads
        if epoch.last or not trying.tells(training):
            return
        if not threads.should_try_again(epoch.seconds):
            return
        with self._progress.busy():
            trying.choose_threads(training, threads)
        log.info(
            "%s/%d: epochs take another time than before: trained on %d of %d threads now",
            self._lease.study,
            self._lease.trial_number,
            training.threads.steps,
            threads.most,
        )

    def _complete(self) -> None:
        self._ending.writer.save_best()
        training = self.started.training
        self._ending.end(
            Completed(
                value=training.progress.value,
                validation_outputs=training.validation_outputs,
                measured=self._measured() if self._lease.kind == "trial" else {},
            )
        )

    def _measured(self) -> dict[str, float]:
        with self._progress.busy():
            found = costs.measured(self.started.seen, self.started.training, self._lease)
        if (peak := self.started.watch.peak_bytes) is not None:
            found["memory_bytes"] = float(peak)
        return found


def start_trial(
    resources: Resources, order: RunTrial, *, place: int = 0, member: TrialRun | None = None
) -> TrialRun | None:
    """Begin a trial; None if it has ended already, and the agent was told.

    Args:
        resources: The resources of the training process.
        order: The order to run the trial.
        place: The number of its model's place in the backbone cache, from 0.
        member: A trial of the group that this one joins, if it joins one.
    """
    ending = TrialEnding(resources, order)
    with ending.guard():
        progress = ProgressReporter(resources.channel, order.lease.lease_id)
        shared = None if member is None else member.started
        trial = TrialRun(
            resources,
            order,
            start_training(resources, order, progress, place=place, member=shared),
            ending,
            place,
        )
        trial.begin(progress)
        return None if trial.has_ended else trial
    return None


def _shape(epoch: EpochResult, finding: MemoryFinding | None) -> Report:
    measured = {f"validation_{name}": value for name, value in epoch.metrics.items()}
    metrics = {**measured, "train_loss": epoch.train_loss, "seconds": epoch.seconds}
    if finding is not None and finding.peak_bytes is not None:
        metrics["memory_bytes"] = float(finding.peak_bytes)
    return Report(step=epoch.epoch, value=epoch.value, metrics=metrics)
