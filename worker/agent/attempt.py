"""One attempt at one lease: from its checkpoint to its last words."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.leases import (
    CheckpointReport,
    Completed,
    Failed,
    Lease,
    Outcome,
    Release,
    Report,
    Verdict,
)
from trimtab.contract.records import TrialRecord
from worker import checkpoints
from worker.agent import reporter, resuming, teacher_files, uploads
from worker.agent.backoff import Backoff
from worker.agent.events import (
    DrainRequested,
    Event,
    EventQueue,
    LeaseRevoked,
    RunnerExited,
    RunnerMessage,
    VerdictReceived,
)
from worker.agent.lease_keeper import LOST
from worker.agent.memory_findings import Memory
from worker.agent.reporter import Reporter
from worker.agent.spool import PASSING, Delivery
from worker.agent.stall_detector import BusyTime, StallDetector, Timeouts
from worker.agent.uploads import Pair, Uploads
from worker.pipe_messages import (
    OPENING,
    Began,
    Ended,
    EpochDone,
    Order,
    Progress,
    RunTrial,
    SavedState,
    Steer,
    StoredFile,
)

log = logging.getLogger(__name__)

SEVERITY: tuple[Verdict, ...] = ("continue", "stop", "finish", "pause", "cancel")


class ServiceCalls(
    reporter.ServiceCalls,
    resuming.ServiceCalls,
    teacher_files.ServiceCalls,
    uploads.ServiceCalls,
    Protocol,
):
    """What an attempt needs of the client."""

    def record(self, lease_id: UUID, record: TrialRecord, /) -> None:
        """Keep what was found when the attempt began."""
        ...


class Runner(Protocol):
    """What an attempt needs of the runner."""

    @property
    def pid(self) -> int:
        """Tells this runner's events from those of the one before it."""
        ...

    def send(self, order: Order, /) -> None:
        """Say something."""
        ...

    def kill(self, why: Failed, /) -> None:
        """End it at once."""
        ...


class Attempt:
    """Runs one lease on a warm runner. `run` returns what is left to say, or None when the lease was lost.

    Args:
        lease: what to run.
        client: the service.
        runner: the warm runner.
        events: where runner, keeper and signals are heard.
        folder: this attempt's checkpoints.
        teachers: where this machine keeps the models that teach.
        timeouts: how patient to be.
        memory: what is known of the devices' memory.
        busy_time: for how long the runner was, by this attempt or another.
        renewed: is called with the ttl when a report has renewed the lease.
        open_group: is called when the runner takes company.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        lease: Lease,
        *,
        client: ServiceCalls,
        runner: Runner,
        events: EventQueue,
        folder: Path,
        teachers: Path,
        timeouts: Timeouts,
        memory: Memory,
        busy_time: BusyTime,
        renewed: Callable[[float], None],
        open_group: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lease = lease
        self._client = client
        self._runner = runner
        self._events = events
        self._folder = folder
        self._teachers = teachers
        self._timeouts = timeouts
        self._memory = memory
        self._open_group = open_group
        self._may_group = False
        self._clock = clock
        self._uploads = Uploads(client, lease.lease_id)
        self._reporter = Reporter(client, lease.lease_id, renewed, clock)
        self._busy_time = busy_time
        self._stall_detector = StallDetector(timeouts, clock, busy_time.seconds)
        self._pair: Pair | None = None
        self._asked: Verdict = "continue"
        self._draining = False
        self._lost = False
        self._ending: Outcome | Release | None = None
        self._model: StoredFile | None = None

    @property
    def name(self) -> str:
        """Study and trial number, as people read them."""
        final = " (final)" if self.lease.kind == "final" else ""
        return f"{self.lease.study}/{self.lease.trial_number}{final}"

    def moves(self) -> bool:
        """Tell whether there is progress; what the agent itself does for the attempt counts as such."""
        return self._stall_detector.is_moving()

    def run(self) -> Delivery | None:
        """Train, or evaluate, until it ends, is put aside, is lost or dies."""
        order = self._prepare()
        if self._ending is None:
            self._runner.send(order)
            self._stall_detector.begin()
        while self._ending is None:
            self._wait_for_runner()
        self._stall_detector.end()
        self._uploads.finish(self._timeouts.grace_s / 4)
        if self._lost:
            checkpoints.discard_attempt(self._folder)
            return None
        return self._last_words(self._ending)

    def _prepare(self) -> RunTrial:
        """Bring here what the runner needs; where that cannot be had, the attempt ends."""
        resume = resuming.fetch(self.lease, self._folder, self._client, self._rest)
        teacher = None
        if self._ending is None:
            try:
                teacher = teacher_files.fetch(
                    self.lease.teacher, self._teachers, self._client, self._rest
                )
            except teacher_files.TeacherUnavailable as error:
                message = str(error)
                self._ending = Failed(error="data_missing", message=message, retryable=True)
        return RunTrial(
            lease=self.lease,
            folder=self._folder,
            resume=resume,
            teacher=teacher,
            memory=self._memory.of(self.lease.model.backbone),
        )

    def _wait_for_runner(self) -> None:
        seconds, began = self._stall_detector.seconds_left(), self._clock()
        event = self._events.get(seconds)
        if event is not None:
            with self._busy_time.meanwhile():
                self._take(event)
            return
        self._stall_detector.overslept(self._clock() - began - seconds)
        why = self._stall_detector.verdict()
        if why is not None:
            self._runner.kill(why)

    def _rest(self, seconds: float) -> bool:
        """Wait for a service that is away, before the runner has begun; false when the attempt ends here."""
        event = self._events.get(seconds)
        if event is not None:
            self._take(event)
        if self._draining or self._lost:
            # There is nothing to put aside.
            self._ending = Release(reason="drain")
        return self._ending is None

    # What happens

    def _take(self, event: Event) -> None:
        match event:
            case RunnerMessage(pid=self._runner.pid, news=EpochDone() as epoch) if self._ours(
                epoch
            ):
                self._on_epoch(epoch)
            case RunnerMessage(pid=self._runner.pid, news=Progress()):
                # Of this trial, or of another that it waits for.
                self._stall_detector.moved()
            case RunnerMessage(pid=self._runner.pid, news=Began() as began) if self._ours(
                began
            ):
                self._stall_detector.moved()
                self._on_begin(began)
            case RunnerMessage(pid=self._runner.pid, news=Ended() as ended) if self._ours(
                ended
            ):
                self._on_end(ended)
            case RunnerExited(pid=self._runner.pid, failure=failure):
                self._on_death(failure)
            case VerdictReceived(lease_id=self.lease.lease_id, verdict=verdict):
                self._steer(verdict)
            case LeaseRevoked(lease_id=self.lease.lease_id, problem=problem):
                self._lose(problem)
            case DrainRequested():
                self._drain()
            case _:
                pass

    def _ours(self, news: Began | EpochDone | Ended) -> bool:
        return news.lease_id == self.lease.lease_id

    def _on_epoch(self, epoch: EpochDone) -> None:
        self._stall_detector.epoch_done()
        self._note(epoch.newest, epoch.best)
        self._asked = _graver(self._report(epoch.report), self._asked)
        self._send(self._asked, epoch.report.step)
        if epoch.finding is not None:
            self._memory.tell(self.lease.lease_id, epoch.finding)
        self._stall_detector.begin()
        if self._pair is not None and self._asked == "continue":
            self._uploads.offer(self._pair)

    def _report(self, report: Report) -> Verdict:
        try:
            return self._reporter.report(report)
        except LOST as problem:
            self._lose(problem)
            return "cancel"

    def _on_begin(self, began: Began) -> None:
        if began.may_group:
            self._may_group = True
            self._open_group()
        problem = self._record(began.record)
        if self.lease.kind == "final":
            self._answer_opening(began.record, problem)

    def _answer_opening(self, record: TrialRecord, problem: problems.Problem | None) -> None:
        """Give leave to open the test split when the service has noted that it is opened, and not before."""
        backoff = Backoff()
        while (
            isinstance(problem, PASSING) and self._asked == "continue" and self._ending is None
        ):
            event = self._events.get(backoff.next())
            if event is not None:
                self._take(event)
                continue
            self._stall_detector.moved()
            problem = self._record(record)
        if problem is None or self._asked != "continue":
            self._send(self._asked, OPENING)
        elif self._ending is None:
            message = f"The test split stays sealed: its opening could not be noted: {problem}"
            self._runner.kill(Failed(error="infrastructure", message=message, retryable=True))

    def _record(self, record: TrialRecord) -> problems.Problem | None:
        """Store it; return what stood in the way."""
        try:
            self._client.record(self.lease.lease_id, record)
        except LOST as problem:
            self._lose(problem)
        except problems.Problem as problem:
            # No trial fails for its record.
            log.warning("%s: its record was not stored: %s", self.name, problem)
            return problem
        return None

    def _on_end(self, ended: Ended) -> None:
        self._note(ended.newest, ended.best)
        match ended.outcome:
            case None:
                paused = self._asked == "pause" and not self._draining
                self._ending = Release(reason="paused" if paused else "drain")
            case outcome:
                self._ending = outcome
                self._model = ended.model

    def _on_death(self, failure: Failed) -> None:
        log.warning("%s: %s", self.name, failure.message)
        self._ending = Release(reason="drain") if self._draining else failure

    def _steer(self, verdict: Verdict) -> None:
        """Pass on what came between two epochs."""
        self._asked = _graver(self._asked, verdict)
        self._send(self._asked)

    def _send(self, verdict: Verdict, step: int | None = None) -> None:
        self._runner.send(Steer(lease_id=self.lease.lease_id, verdict=verdict, step=step))

    def _lose(self, problem: problems.Problem) -> None:
        log.warning("%s: given up: %s", self.name, problem)
        self._lost = True
        if not self._may_group:
            self._stall_detector.leave_soon()
        # Else it hears of it within milliseconds of its training, and others must not fall with it meanwhile.
        self._steer("cancel")

    def _drain(self) -> None:
        self._draining = True
        self._stall_detector.leave_soon()
        self._steer("pause")

    # What the service is told

    def _note(self, newest: SavedState | None, best: SavedState | None) -> None:
        if newest is not None:
            self._pair = Pair(newest, best)

    def _last_words(self, ending: Outcome | Release) -> Delivery:
        files, checkpoint = self._left_to_store(ending)
        model = () if self._model is None else (self._model,)
        return Delivery(
            lease_id=self.lease.lease_id,
            name=self.name,
            reports=self._reporter.pending,
            files=(*files, *model),
            checkpoint=checkpoint,
            ending=ending,
            folder=self._folder,
        )

    def _left_to_store(
        self, ending: Outcome | Release
    ) -> tuple[tuple[SavedState, ...], CheckpointReport | None]:
        match ending:
            case Completed() if self._pair is not None and self._pair.best is not None:
                # Nobody carries on from a completed trial; the final evaluation starts from its best epoch.
                pair = Pair(self._pair.best, self._pair.best)
            case Release() | Failed(retryable=True) if self._pair is not None:
                pair = self._pair
            case _:
                return (), None
        return self._uploads.missing(pair), pair.report()


def _graver(one: Verdict, other: Verdict) -> Verdict:
    return one if SEVERITY.index(one) >= SEVERITY.index(other) else other
