"""One trial in the runner: from the state that it starts or resumes from to its end."""

import logging
from dataclasses import dataclass

from trimtab.contract.leases import Completed, Pruned, Report
from trimtab.contract.memory import MemoryFinding
from worker.pipe_messages import Began, EpochDone, RunTrial
from worker.runner import costs, trial_record
from worker.runner.ending import TrialEnding
from worker.runner.progress import Cancelled, Finished, Paused, ProgressReporter
from worker.runner.resources import Resources
from worker.runner.starting import StartedTraining, start_training
from worker.training.loop import trying
from worker.training.loop.epochs import EpochResult
from worker.training.loop.state import FitState
from worker.training.loop.training import Training

log = logging.getLogger(__name__)


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
    def _devices(self) -> int:
        ranks = self.started.training.learner.ranks
        return 1 if ranks is None else ranks.count

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
            devices=self._devices,
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
