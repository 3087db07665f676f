"""One attempt at one lease: from the checkpoint that it resumes to the outcome that is delivered."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

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
from worker.agent import kept_copies, preparing, reporter, uploads
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
from worker.fetching.store import AtHand, Store
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
"""Verdicts from the mildest to the gravest. A verdict that was received is never replaced by a milder one."""


class ServiceCalls(
    reporter.ServiceCalls, preparing.ServiceCalls, uploads.ServiceCalls, Protocol
):
    """What an attempt needs of the client."""


class Runner(Protocol):
    """What an attempt needs of the runner."""

    @property
    def pid(self) -> int:
        """The process id; it tells this runner's events from those of the one before it."""
        ...

    def send(self, order: Order, /) -> None:
        """Send an order."""
        ...

    def kill(self, why: Failed, /) -> None:
        """End the process at once; the trial fails as `why` says."""
        ...


class Attempt:
    """Runs one lease on a warm runner. `run` returns the outcome to deliver, or None when the lease was lost.

    Args:
        lease: the lease to run.
        client: the client of the service.
        runner: the warm runner.
        events: the queue that events of the runner, the lease keeper and signals arrive in.
        folder: the folder for this attempt's checkpoints.
        teachers: the folder in which this machine keeps the models of teachers.
        store: the data sets that this machine has fetched.
        timeouts: when a runner counts as stalled, and how long it may take to leave.
        memory: the findings about the devices' memory.
        busy_time: the time that the agent's attempts have kept the runner waiting; shared by all of them.
        renewed: is called with the ttl in seconds when a report has renewed the lease.
        open_group: is called when the runner can train further trials with this one.
        clock: monotonic clock, in seconds.
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
        store: Store,
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
        self._store = store
        self._at_hand: AtHand | None = None
        self._timeouts = timeouts
        self._memory = memory
        self._open_group = open_group
        self._may_group = self._is_open = False
        self._clock = clock
        self._uploads = Uploads(client, lease.lease_id)
        self._reporter = Reporter(client, lease.lease_id, renewed, clock)
        self._busy_time = busy_time
        self._stall_detector = StallDetector(timeouts, clock, busy_time.seconds)
        self._pair: Pair | None = None
        self._verdict: Verdict = "continue"
        """The gravest verdict so far, by a report's answer or a heartbeat's."""
        self._draining = False
        self._lost = False
        self._ending: Outcome | Release | None = None
        self._models: tuple[StoredFile, ...] = ()

    @property
    def name(self) -> str:
        """Study and trial number, as people read them."""
        place = self.lease.seed_index
        further = f", further seed {place}" if place else ""
        kind = "" if self.lease.kind == "trial" else f" ({self.lease.kind}{further})"
        return f"{self.lease.study}/{self.lease.trial_number}{kind}"

    def moves(self) -> bool:
        """Tell whether the attempt makes progress; what the agent itself does for it counts as progress."""
        return self._stall_detector.is_moving()

    def run(self) -> Delivery | None:
        """Train or evaluate until the trial ends, is released, or the lease or the runner is lost."""
        order = self._prepare()
        if order is not None:
            self._runner.send(order)
            self._stall_detector.begin()
        while self._ending is None:
            self._wait_for_runner()
        self._stall_detector.end()
        if self._at_hand is not None:
            self._at_hand.hold.release()
        # States whose upload does not end in time are uploaded once more, with the delivery.
        self._uploads.finish(self._timeouts.grace_s / 4)
        if self._lost:
            checkpoints.discard_attempt(self._folder)
            return None
        return self._delivery(self._ending)

    def _prepare(self) -> RunTrial | None:
        """Fetch the files that the runner needs; if one cannot be fetched, the attempt ends."""
        kept_copies.take_up(self._folder)
        try:
            prepared = preparing.prepare(
                self.lease,
                self._folder,
                client=self._client,
                teachers=self._teachers,
                store=self._store,
                memory=self._memory.of(self.lease.model.backbone),
                rest=self._rest,
            )
        except preparing.Ends as end:
            self._ending = self._ending or end.failed
            return None
        self._at_hand = prepared.at_hand
        return prepared.order

    def _wait_for_runner(self) -> None:
        seconds, began = self._stall_detector.seconds_left(), self._clock()
        event = self._events.get(seconds)
        if event is not None:
            # While this thread handles the event, by a request to a slow service, say, the runner may have to wait for
            # the verdict: that is not the runner's stall, nor that of the other trials of a group.
            with self._busy_time.meanwhile():
                self._take(event)
            return
        self._stall_detector.overslept(self._clock() - began - seconds)
        why = self._stall_detector.verdict()
        if why is not None:
            self._runner.kill(why)

    def _rest(self, seconds: float) -> bool:
        """Wait for a service that is away, before the runner has begun; false when the attempt has to end."""
        event = self._events.get(seconds)
        if event is not None:
            self._take(event)
        if self._draining or self._lost or self._verdict != "continue":
            # Nothing was trained, so there is no checkpoint to store.
            paused = self._verdict == "pause" and not self._draining
            self._ending = Release(reason="paused" if paused else "drain")
        return self._ending is None

    # What happens

    def _take(self, event: Event) -> None:
        match event:
            case RunnerMessage(pid=self._runner.pid, news=EpochDone() as epoch) if self._ours(
                epoch
            ):
                self._on_epoch(epoch)
            case RunnerMessage(pid=self._runner.pid, news=Progress()):
                # Progress of any trial of the group counts: they are trained epoch by epoch, so this one may be waiting
                # for another.
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
        self._verdict = _graver(self._tell(epoch.report), self._verdict)
        self._send(self._verdict, epoch.report.step)
        if epoch.finding is not None:
            self._memory.tell(self.lease.lease_id, epoch.finding)
        self._stall_detector.begin()
        self._open_if_recorded()
        # Nothing that was learned is stored before the service has seen that it was learned from the study's data.
        is_recorded = self._reporter.record is None
        if self._pair is not None and self._verdict == "continue" and is_recorded:
            self._uploads.offer(self._pair)

    def _tell(self, report: Report) -> Verdict:
        try:
            if self.lease.kind == "refit":
                # Nothing is compared by its epochs: they are not reported, and heartbeats bring its verdicts.
                self._reporter.remind()
                return "continue"
            return self._reporter.report(report)
        except LOST as problem:
            self._lose(problem)
            return "cancel"

    def _on_begin(self, began: Began) -> None:
        self._may_group = began.may_group
        fetched = None if self._at_hand is None else self._at_hand.fetched
        record = began.record.model_copy(update={"fetched": fetched})
        problem = self._record(record)
        self._open_if_recorded()
        if self.lease.kind == "final":
            self._answer_opening(record, problem)

    def _answer_opening(self, record: TrialRecord, problem: problems.Problem | None) -> None:
        """Let the runner open the test split once the service has recorded that it is opened."""
        # The record comes first, so that no evaluation on the test split can go unrecorded, whoever dies in between.
        backoff = Backoff()
        while (
            isinstance(problem, PASSING)
            and self._verdict == "continue"
            and self._ending is None
        ):
            event = self._events.get(backoff.next())
            if event is not None:
                self._take(event)
                continue
            self._stall_detector.moved()
            problem = self._record(record)
        if problem is None or self._verdict != "continue":
            self._send(self._verdict, OPENING)
        elif self._ending is None:
            message = f"The test split stays sealed: the service did not record that it would be opened: {problem}"
            self._runner.kill(Failed(error="infrastructure", message=message, retryable=True))

    def _record(self, record: TrialRecord) -> problems.Problem | None:
        """Store the trial's record; return the problem if that failed and the lease is not lost."""
        try:
            return self._reporter.begin(record)
        except LOST as problem:
            self._lose(problem)
            return None

    def _open_if_recorded(self) -> None:
        """Let other trials join, once: before its record, the study gives no others."""
        if self._may_group and not self._is_open and not self._lost:
            self._is_open = self._reporter.record is None
            if self._is_open:
                self._open_group()

    def _on_end(self, ended: Ended) -> None:
        self._note(ended.newest, ended.best)
        match ended.outcome:
            case None:
                # Draining tells the runner to pause as well, but the trial is then free for any other worker.
                paused = self._verdict == "pause" and not self._draining
                self._ending = Release(reason="paused" if paused else "drain")
            case outcome:
                self._ending = outcome
                self._models = ended.models

    def _on_death(self, failure: Failed) -> None:
        log.warning("%s: %s", self.name, failure.message)
        self._ending = Release(reason="drain") if self._draining else failure

    def _steer(self, verdict: Verdict) -> None:
        """Pass on a verdict that came between two epochs."""
        self._verdict = _graver(self._verdict, verdict)
        self._send(self._verdict)

    def _send(self, verdict: Verdict, step: int | None = None) -> None:
        self._runner.send(Steer(lease_id=self.lease.lease_id, verdict=verdict, step=step))

    def _lose(self, problem: problems.Problem) -> None:
        log.warning("%s: the lease is lost, training is cancelled: %s", self.name, problem)
        self._lost = True
        # A runner that does not cancel in time is killed, unless it trains a group: then the kill would end the other
        # trials too, and small heads look for a cancellation every few milliseconds.
        if not self._may_group:
            self._stall_detector.leave_soon()
        self._steer("cancel")

    def _drain(self) -> None:
        self._draining = True
        self._stall_detector.leave_soon()
        self._steer("pause")

    # What is delivered to the service

    def _note(self, newest: SavedState | None, best: SavedState | None) -> None:
        if newest is not None:
            self._pair = Pair(newest, best)

    def _delivery(self, ending: Outcome | Release) -> Delivery:
        files, checkpoint = self._left_to_store(ending)
        return Delivery(
            lease_id=self.lease.lease_id,
            name=self.name,
            # That of a final lease says that the test split is opened, which it was not.
            record=None if self.lease.kind == "final" else self._reporter.record,
            reports=self._reporter.pending,
            files=(*files, *self._models),
            checkpoint=checkpoint,
            ending=ending,
            folder=self._folder,
        )

    def _left_to_store(
        self, ending: Outcome | Release
    ) -> tuple[tuple[SavedState, ...], CheckpointReport | None]:
        match ending:
            case Completed() if self._pair is not None and self._pair.best is not None:
                # No attempt resumes a completed trial, but the final evaluation starts from its best state.
                pair = Pair(self._pair.best, self._pair.best)
            case Release() | Failed(retryable=True) if self._pair is not None:
                pair = self._pair
            case _:
                return (), None
        return self._uploads.missing(pair), pair.report()


def _graver(one: Verdict, other: Verdict) -> Verdict:
    return one if SEVERITY.index(one) >= SEVERITY.index(other) else other
