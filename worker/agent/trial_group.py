"""A trial, and those like it that join it on its runner: each in a lane of the agent, and a thread of its own."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.leases import Failed, Lease, Outcome, Release
from worker.agent.lease_slot import LeaseSlot
from worker.agent.runner_process import RunnerProcess
from worker.grouping import may_share_runner

log = logging.getLogger(__name__)


class TrialGroup:
    """Runs the lead's trial, and beside it others of its study once the runner takes company.

    Whoever gets a trial calls the next lane. Who is not answered asks again; who gets none leaves, and so does who
    would be alone. After an unlike trial, or a crash, nobody claims any more, and what has begun runs to its end.

    Args:
        lead: the first lease.
        worker_id: who claims.
        slots: the lead's, and those that may be called.
        leaving: set when the agent was told to leave.
    """

    def __init__(
        self, lead: Lease, worker_id: UUID, slots: Sequence[LeaseSlot], leaving: threading.Event
    ) -> None:
        self._lead = lead
        self._worker_id = worker_id
        self._first = slots[0]
        self._away = list(slots[:0:-1])
        """Lanes that have nothing to do here; whoever gets a trial calls one of them."""
        self._present = {slots[0]}
        """Lanes that run a trial, or ask for one and are answered."""
        self._leaving = leaving
        self._threads = ThreadPoolExecutor(len(slots), "slot")
        self._called: list[Future[None]] = []
        self._runner: RunnerProcess | None = None
        self._claims = True
        self._were_several = False
        self.has_crashed = False
        """Whether a trial ended in a way that nobody foresaw, which may have spoiled the runner."""

    @property
    def have_failed(self) -> bool:
        """Whether the runner died, or was spoiled, after it had been given several."""
        return self._were_several and self._sound_runner() is None

    def run(self, warm: Callable[[], RunnerProcess | None]) -> None:
        """Run until the last has left.

        Args:
            warm: waits for the runner; with none the lease is given back.
        """
        with self._threads:
            try:
                self._note(self._first.run(self._lead, warm, open_group=self._open))
                self._stay(self._first)
                while self._called:
                    self._called.pop().result()
            finally:
                self._claims = False

    def _open(self, runner: RunnerProcess) -> None:
        self._runner = runner
        self._call()

    def _call(self) -> None:
        """Let one more lane join."""
        try:
            slot = self._away.pop()
        except IndexError:
            return
        self._present.add(slot)
        self._called.append(self._threads.submit(self._join, slot))

    def _join(self, slot: LeaseSlot) -> None:
        try:
            self._stay(slot)
        finally:
            self._away.append(slot)

    def _stay(self, slot: LeaseSlot) -> None:
        """Claim and run one trial after the other, until there is none to be had."""
        try:
            while (lease := self._claim(slot)) is not None:
                self._were_several = True
                self._call()
                beside = f"{self._lead.study}/{self._lead.trial_number}"
                self._note(slot.run(lease, self._sound_runner, beside=beside))
        except BaseException as error:
            self._claims = False
            # Or it would wait for this lane's verdict, and the others with it.
            self._fell(error)
            raise
        finally:
            self._present.discard(slot)

    def _fell(self, error: BaseException) -> None:
        if self._runner is not None:
            message = f"The agent fell: {type(error).__name__}: {error}"
            self._runner.kill(Failed(error="crashed", message=message, retryable=True))

    def _claim(self, slot: LeaseSlot) -> Lease | None:
        while self._may_claim(slot):
            try:
                lease = slot.claimer.claim(self._worker_id, 0.0, beside=self._lead.study)
            except problems.Unavailable as problem:
                # It may have granted a trial all the same, which nobody would run: a repeat gets it.
                log.info("nobody joins %s yet: %s", self._lead.study, problem)
                self._present.discard(slot)
                slot.rest()
            except problems.Problem as problem:
                log.info("nobody joins %s: %s", self._lead.study, problem)
                return None
            else:
                self._present.add(slot)
                slot.backoff.reset()
                return self._fitting(slot, lease)
        return None

    def _fitting(self, slot: LeaseSlot, lease: Lease | None) -> Lease | None:
        """Keep a lease that is like the lead's; another is given back."""
        if lease is None or may_share_runner(self._lead, lease):
            return lease
        self._claims = False
        log.info("%s/%d cannot join: it is unlike", lease.study, lease.trial_number)
        slot.claimer.give_back(lease)
        return None

    def _may_claim(self, slot: LeaseSlot) -> bool:
        accompanied = bool(self._present - {slot})
        return (
            self._claims
            and accompanied
            and not self._leaving.is_set()
            and self._sound_runner() is not None
        )

    def _sound_runner(self) -> RunnerProcess | None:
        runner = self._runner
        return (
            runner if runner is not None and runner.is_alive and not self.has_crashed else None
        )

    def _note(self, ending: Outcome | Release | None) -> None:
        if isinstance(ending, Failed) and ending.error == "crashed":
            self.has_crashed = True
