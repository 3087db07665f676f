"""One trial in the runner's hands, from its first state to its last words."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from trimtab.contract.leases import Completed, Pruned, Report
from worker import beginning
from worker.bench import Bench
from worker.data import TaskData
from worker.last_words import LastWords
from worker.memory_watch import MemoryWatch
from worker.pipe_messages import Began, EpochDone, RunTrial
from worker.signs_of_life import Cancelled, SignsOfLife
from worker.training import heads
from worker.training.distillation import Teacher
from worker.training.epochs import EpochResult
from worker.training.errors import CheckpointError
from worker.training.fit import begin
from worker.training.state import FitState
from worker.training.training import Training

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Begun:
    """A training that can go on, and what it was begun with."""

    training: Training
    seen: TaskData
    watch: MemoryWatch


def begun(
    bench: Bench,
    order: RunTrial,
    signs: SignsOfLife,
    *,
    place: int = 0,
    beside: Begun | None = None,
) -> Begun:
    """Load data and model, and carry on from the first state that fits.

    Args:
        bench: What to work on.
        order: What is trained.
        signs: Of its life.
        place: Of the model on the shelf.
        beside: A training alike that goes on: its data and features are at hand.

    Raises:
        Exception: Whatever keeps it from beginning.
    """
    lease = order.lease
    with signs.busy():
        seen = bench.load(lease) if beside is None else beside.seen
        watch = MemoryWatch(
            lease,
            seen,
            bench.device,
            bench.memory_bytes,
            order.memory,
            alone=beside is None,
        )
        teacher = None
        if order.teacher is not None:
            teacher = Teacher(order.teacher, seen.classes, bench.own)

        def start(state: FitState | None) -> Training:
            model = bench.shelf.take(
                lease.model,
                classes=seen.outputs,
                seed=lease.seed,
                recipe=lease.recipe,
                head=heads.of(lease.recipe, seen.kind),
                place=place,
            )
            return begin(
                model,
                seen,
                lease.recipe,
                seed=lease.seed,
                device=bench.device,
                resume=state,
                features_cache=bench.features,
                micro_batch_size=watch.first_portion,
                teacher=teacher,
                each_batch=signs.batch,
                beside=None if beside is None else beside.training,
            )

        return Begun(_from_the_first_that_fits(order, start), seen, watch)


def _from_the_first_that_fits(
    order: RunTrial, start: Callable[[FitState | None], Training]
) -> Training:
    for saved in order.resume:
        try:
            return start(FitState.load(saved.path))
        except CheckpointError as error:
            log.warning("step %d is passed over: %s", saved.step, error)
    return start(None)


class Trainee:
    """A trial that trains, an epoch at a time, as its verdicts say.

    Args:
        bench: What it works on.
        order: The trial.
        begun: Its training.
        words: Its last ones.
        place: Of its model on the shelf.

    Attributes:
        takes_company: Whether trials that are alike may be trained beside it.
    """

    def __init__(
        self, bench: Bench, order: RunTrial, begun: Begun, words: LastWords, place: int
    ) -> None:
        lease = order.lease
        self.begun = begun
        self.place = place
        self.takes_company = begun.training.takes_company and bench.shelf.has_places(
            lease.model
        )
        self._bench = bench
        self._lease = lease
        self._words = words
        self._epoch: EpochResult | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it has nothing more to say."""
        return self._words.are_said

    def introduce(self) -> None:
        """Tell the agent what it begins with."""
        record = beginning.record_of(
            self.begun.seen,
            self._lease.recipe,
            self._bench.device,
            model=self.begun.training.learner.model,
            portion=self.begun.watch.first_portion,
        )
        began = Began(
            lease_id=self._lease.lease_id, record=record, takes_company=self.takes_company
        )
        self._bench.line.say(began)
        if self.begun.training.ended:
            self._complete()

    def report(self, epoch: EpochResult | Exception) -> None:
        """Tell of an epoch, or end by what has ended it; while the agent reports, its state may be written."""
        with self._words.carefully():
            if isinstance(epoch, Exception):
                raise epoch
            self._epoch = epoch
            self._bench.line.say(
                EpochDone(
                    lease_id=self._lease.lease_id,
                    report=_shape(epoch),
                    newest=self._words.saver.newest,
                    best=self._words.saver.best,
                    finding=self.begun.watch.news(epoch.micro_batch_size),
                )
            )
            self._words.saver.offer(epoch)

    def heed(self) -> None:
        """Wait for the verdict on the epoch, and do as it says."""
        epoch = self._epoch
        if epoch is None or self.has_ended:
            return
        with self._words.carefully():
            match self._bench.line.verdict(self._lease.lease_id, epoch.epoch):
                case "continue":
                    if epoch.last:
                        self._complete()
                case "stop":
                    self._words.say(Pruned())
                case "cancel":
                    raise Cancelled
                case "pause":
                    self._words.saver.save(epoch)
                    self._words.say(None)

    def _complete(self) -> None:
        self._words.saver.save_best()
        self._words.say(Completed(value=self.begun.training.progress.best_value))


def take_on(
    bench: Bench, order: RunTrial, *, place: int = 0, beside: Trainee | None = None
) -> Trainee | None:
    """Begin a trial; None where it has ended already, and the agent is told.

    Args:
        bench: What to work on.
        order: What to train.
        place: Of its model on the shelf.
        beside: Another that is alike and takes company.
    """
    words = LastWords(bench, order)
    with words.carefully():
        signs = SignsOfLife(bench.line, order.lease.lease_id)
        shared = None if beside is None else beside.begun
        trainee = Trainee(
            bench, order, begun(bench, order, signs, place=place, beside=shared), words, place
        )
        trainee.introduce()
        return None if trainee.has_ended else trainee
    return None


def _shape(epoch: EpochResult) -> Report:
    measured = {f"validation_{name}": value for name, value in epoch.metrics.items()}
    metrics = {**measured, "train_loss": epoch.train_loss, "seconds": epoch.seconds}
    return Report(step=epoch.epoch, value=epoch.value, metrics=metrics)
