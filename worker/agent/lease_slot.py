"""A slot of an agent: runs one lease and settles it, then takes the next."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.leases import Answer, Lease, Outcome, Release, Reports
from worker import checkpoints
from worker.agent import attempt, claimer, memory_findings, spool
from worker.agent.attempt import Attempt
from worker.agent.backoff import Backoff
from worker.agent.claimer import Claimer
from worker.agent.events import Event, EventQueue
from worker.agent.lease_keeper import Heartbeats, LeaseKeeper
from worker.agent.memory_findings import Memory
from worker.agent.runner_process import RunnerProcess
from worker.agent.spool import Delivery, Spool
from worker.agent.stall_detector import BusyTime, Timeouts
from worker.fetching.store import Store

log = logging.getLogger(__name__)


class ServiceCalls(
    attempt.ServiceCalls,
    spool.ServiceCalls,
    claimer.ServiceCalls,
    memory_findings.ServiceCalls,
    Heartbeats,
    Protocol,
):
    """What a slot needs of the client."""

    def report(self, lease_id: UUID, reports: Reports, /) -> Answer:
        """Store intermediate values."""
        ...


@dataclass(frozen=True)
class Shared:
    """What the slots of one agent share; each uses it from a thread of its own."""

    client: ServiceCalls
    server: str
    spool: Spool
    memory: Memory
    cache_dir: Path
    store: Store
    timeouts: Timeouts
    busy_time: BusyTime
    leaving: threading.Event
    """Is set when the agent was told to leave."""
    leave: Callable[[], None] = lambda: None
    """Tells the agent to leave."""


class LeaseSlot:
    """Runs one lease at a time.

    Args:
        shared: the objects that the slots of one agent share.
        on_event: is called with events that arrive while no attempt takes them.
    """

    def __init__(
        self, shared: Shared, on_event: Callable[[Event], None] = lambda event: None
    ) -> None:
        self.events = EventQueue()
        self.claimer = Claimer(shared.client, self.events, on_event)
        self.backoff = Backoff()
        self._shared = shared
        self._on_event = on_event

    def run(
        self,
        lease: Lease,
        warm: Callable[[], RunnerProcess | None],
        *,
        lead: str | None = None,
        open_group: Callable[[RunnerProcess], None] = lambda runner: None,
    ) -> Outcome | Release | None:
        """Run a lease and settle it; return how it ended, None when it was lost or not started.

        Args:
            lease: the lease to run.
            warm: waits for the runner and returns it; if it returns None, the lease is given back.
            lead: the name of the trial whose group the lease joins on that runner, if there is one.
            open_group: is called with the runner when it can train further trials with this one.
        """
        # The keeper starts before the runner is there: to start one can take longer than the lease holds.
        begun: list[Attempt] = []
        with self._keeper(lease, begun) as keeper:
            runner = warm()
            if runner is None:
                self.claimer.give_back(lease)
                return None
            work = self._attempt(lease, runner, keeper, lambda: open_group(runner))
            begun.append(work)
            log.info("%s: started%s", work.name, self._details(lead))
            delivery = work.run()
            self.events.lease_id = None
            if delivery is None:
                return None
            # Still under the keeper: files that are uploaded now may take longer than the lease holds.
            self._settle(delivery)
            return delivery.ending

    def deliver(self, *, only: UUID | None = None) -> bool:
        """Deliver the outcomes in the spool, or that of one lease; False, after a wait, when the service is away."""
        shared = self._shared
        try:
            shared.spool.empty(shared.client, only=only)
        except problems.Unavailable as problem:
            log.warning(
                "an outcome could not be delivered to %s, trying again: %s",
                shared.server,
                problem,
            )
            self.rest()
            return False
        except problems.Problem as problem:
            # A wait would not help: the next claim finds out whether this worker can go on at all.
            log.warning(
                "%s refuses this worker's token, outcomes stay on disk: start the worker with a valid token: %s",
                shared.server,
                problem,
            )
        return True

    def rest(self) -> None:
        """Wait, longer each time; an event ends the wait and is handled."""
        event = self.events.get(self.backoff.next())
        if event is not None:
            self._on_event(event)

    def _keeper(self, lease: Lease, begun: list[Attempt]) -> LeaseKeeper:
        return LeaseKeeper(
            self._shared.client,
            lease.lease_id,
            lease.ttl_s,
            self.events.put,
            lambda: all(work.moves() for work in begun),
            self._shared.leave,
        )

    def _attempt(
        self,
        lease: Lease,
        runner: RunnerProcess,
        keeper: LeaseKeeper,
        open_group: Callable[[], None],
    ) -> Attempt:
        self.events.lease_id = lease.lease_id
        return Attempt(
            lease,
            client=self._shared.client,
            runner=runner,
            events=self.events,
            folder=checkpoints.folder_of(self._shared.cache_dir / "checkpoints", lease),
            teachers=self._shared.cache_dir / "teachers",
            store=self._shared.store,
            timeouts=self._shared.timeouts,
            memory=self._shared.memory,
            busy_time=self._shared.busy_time,
            renewed=keeper.renewed,
            open_group=open_group,
        )

    def _details(self, lead: str | None) -> str:
        if lead is not None:
            return f" in the group of {lead}"
        used = checkpoints.disk_use(self._shared.cache_dir / "checkpoints")
        return f"; all checkpoints on this machine take {used / 1e6:.1f} MB"

    def _settle(self, delivery: Delivery) -> None:
        """Deliver the outcome while the lease is still kept; when the agent leaves, for half of the grace at most."""
        # On disk first: the outcome then survives whatever ends this process from here on.
        self._shared.spool.add(delivery)
        deadline = time.monotonic() + self._shared.timeouts.grace_s / 2
        while not self.deliver(only=delivery.lease_id):
            if self._shared.leaving.is_set() and time.monotonic() > deadline:
                return
