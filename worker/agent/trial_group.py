"""A group of trials on one runner: the lead's, and those that join it, each in a slot of the agent.

A head on frozen features learns so fast that its trial mostly waits for the service's answers. So trials that differ
only in how their heads learn (`worker.grouping`) are trained by one runner at the same time. Each keeps a lease, a slot
and a thread of its own, and ends on its own.
"""

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
    """Runs the lead's trial and, once the runner opens the group, further trials of its study.

    A slot that gets a trial adds the next idle slot, which asks for one too. So the group grows by one request at a
    time, and stops growing at the first slot that gets none. A slot leaves the group when there is no trial for it, or
    when no other slot is active: the agent's ordinary claim, which any study may serve, is due then. After a trial that
    cannot share the runner, or a crash, no slot claims any more, and the trials that have started run to their end.

    Args:
        lead: the lease of the first trial.
        worker_id: the id that the service gave this worker.
        slots: the lead's slot, then those that may join.
        leaving: is set when the agent was told to leave.
    """

    def __init__(
        self, lead: Lease, worker_id: UUID, slots: Sequence[LeaseSlot], leaving: threading.Event
    ) -> None:
        self._lead = lead
        self._worker_id = worker_id
        self._first = slots[0]
        self._idle = list(slots[:0:-1])
        """Slots that are not in the group."""
        self._active = {slots[0]}
        """Slots that run a trial, or ask for one of a service that answers."""
        self._leaving = leaving
        self._threads = ThreadPoolExecutor(len(slots), "slot")
        self._joined: list[Future[None]] = []
        self._runner: RunnerProcess | None = None
        self._claims = True
        """Whether slots may still claim trials for this group."""
        self._were_several = False
        self.has_crashed = False
        """Whether a trial ended by an error that may have damaged the runner, such as a CUDA error."""

    @property
    def have_failed(self) -> bool:
        """Whether the runner died, or may be damaged, after it was given more than one trial."""
        return self._were_several and self._sound_runner() is None

    def run(self, warm: Callable[[], RunnerProcess | None]) -> None:
        """Run until the last slot has left the group.

        Args:
            warm: waits for the runner and returns it; if it returns None, the lead's lease is given back.
        """
        with self._threads:
            try:
                self._note(self._first.run(self._lead, warm, open_group=self._open))
                # When its own trial has ended, the lead's slot goes on like any member while others still train.
                self._stay(self._first)
                # A slot that gets a trial adds another one, so the list may grow while this waits.
                while self._joined:
                    self._joined.pop().result()
            finally:
                self._claims = False

    def _open(self, runner: RunnerProcess) -> None:
        self._runner = runner
        self._add_slot()

    def _add_slot(self) -> None:
        """Let one more slot join the group, if there is an idle one."""
        try:
            slot = self._idle.pop()
        except IndexError:
            return
        self._active.add(slot)
        self._joined.append(self._threads.submit(self._join, slot))

    def _join(self, slot: LeaseSlot) -> None:
        try:
            self._stay(slot)
        finally:
            # The next slot that gets a trial may add this one again.
            self._idle.append(slot)

    def _stay(self, slot: LeaseSlot) -> None:
        """Claim and run one trial after the other, until there is no trial for this slot."""
        try:
            while (lease := self._claim(slot)) is not None:
                self._were_several = True
                self._add_slot()
                lead = f"{self._lead.study}/{self._lead.trial_number}"
                self._note(slot.run(lease, self._sound_runner, lead=lead))
        except BaseException as error:
            self._claims = False
            # The runner would wait for a verdict that this slot no longer sends, and all other trials with it.
            self._kill_runner(error)
            raise
        finally:
            self._active.discard(slot)

    def _kill_runner(self, error: BaseException) -> None:
        if self._runner is not None:
            message = (
                "An error in the worker's agent ended the training process of this trial and its group: "
                f"{type(error).__name__}: {error}"
            )
            self._runner.kill(Failed(error="crashed", message=message, retryable=True))

    def _claim(self, slot: LeaseSlot) -> Lease | None:
        while self._may_claim(slot):
            try:
                # Without a wait at the service: the agent claims for all studies again only after every slot has left
                # the group, and a slot that waited for one more trial of this study would hold that up.
                lease = slot.claimer.claim(self._worker_id, 0.0, beside=self._lead.study)
            except problems.Unavailable as problem:
                # The service may have granted a trial although its answer was lost: the next claim, with the same id,
                # gets it. Slots that wait like this are not active, else two of them would keep each other here while
                # no trial runs.
                log.info(
                    "a claim for the group of %s failed, trying again: %s",
                    self._lead.study,
                    problem,
                )
                self._active.discard(slot)
                slot.rest()
            except problems.Problem as problem:
                log.info("no trial joins the group of %s: %s", self._lead.study, problem)
                return None
            else:
                self._active.add(slot)
                slot.backoff.reset()
                return self._fitting(slot, lease)
        return None

    def _fitting(self, slot: LeaseSlot, lease: Lease | None) -> Lease | None:
        """Return a lease that can share the lead's runner; give back any other and return None."""
        if lease is None or may_share_runner(self._lead, lease):
            return lease
        self._claims = False
        log.info(
            "%s/%d cannot share the runner of its group and is given back",
            lease.study,
            lease.trial_number,
        )
        slot.claimer.give_back(lease)
        return None

    def _may_claim(self, slot: LeaseSlot) -> bool:
        others_are_active = bool(self._active - {slot})
        return (
            self._claims
            and others_are_active
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
