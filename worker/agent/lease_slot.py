"""One lane of an agent: a lease run and settled, then the next."""

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

log = logging.getLogger(__name__)


class ServiceCalls(
    attempt.ServiceCalls,
    spool.ServiceCalls,
    claimer.ServiceCalls,
    memory_findings.ServiceCalls,
    Heartbeats,
    Protocol,
):
    """What a lane needs of the client."""

    def report(self, lease_id: UUID, reports: Reports, /) -> Answer:
        """Store intermediate values."""
        ...


@dataclass(frozen=True)
class Shared:
    """What the lanes of one agent share, each from a thread of its own."""

    client: ServiceCalls
    server: str
    spool: Spool
    memory: Memory
    cache_dir: Path
    timeouts: Timeouts
    busy_time: BusyTime
    leaving: threading.Event
    """Set when the agent was told to leave."""


class LeaseSlot:
    """Runs one lease at a time.

    Args:
        shared: what it has in common with the others.
        heed: is given what comes while no attempt listens.
    """

    def __init__(
        self, shared: Shared, heed: Callable[[Event], None] = lambda event: None
    ) -> None:
        self.events = EventQueue()
        self.claimer = Claimer(shared.client, self.events, heed)
        self.backoff = Backoff()
        self._shared = shared
        self._heed = heed

    def run(
        self,
        lease: Lease,
        warm: Callable[[], RunnerProcess | None],
        *,
        beside: str | None = None,
        open_group: Callable[[RunnerProcess], None] = lambda runner: None,
    ) -> Outcome | Release | None:
        """Run a lease and settle it; return how it ended, None when it was lost or not begun.

        Args:
            lease: what to run.
            warm: waits for the runner; with none the lease is given back.
            beside: the name of the trial that it joins on that runner, if there is one.
            open_group: is called when the runner takes company.
        """
        begun: list[Attempt] = []
        with self._keeper(lease, begun) as keeper:
            runner = warm()
            if runner is None:
                self.claimer.give_back(lease)
                return None
            work = self._attempt(lease, runner, keeper, lambda: open_group(runner))
            begun.append(work)
            log.info("%s: begun%s", work.name, self._details(beside))
            delivery = work.run()
            self.events.lease_id = None
            if delivery is None:
                return None
            self._settle(delivery)
            return delivery.ending

    def deliver(self, *, only: UUID | None = None) -> bool:
        """Deliver what waits, or what one lease left to say; False when the service is away, after a rest."""
        shared = self._shared
        try:
            shared.spool.empty(shared.client, only=only)
        except problems.Unavailable as problem:
            log.warning("an outcome waits for %s: %s", shared.server, problem)
            self.rest()
            return False
        except problems.Problem as problem:
            # The token is no longer right: it waits for a restart, which the next claim will ask for.
            log.warning("an outcome waits for another token: %s", problem)
        return True

    def rest(self) -> None:
        """Wait a while, longer each time, unless something happens, which is heeded."""
        event = self.events.get(self.backoff.next())
        if event is not None:
            self._heed(event)

    def _keeper(self, lease: Lease, begun: list[Attempt]) -> LeaseKeeper:
        return LeaseKeeper(
            self._shared.client,
            lease.lease_id,
            lease.ttl_s,
            self.events.put,
            lambda: all(work.moves() for work in begun),
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
            timeouts=self._shared.timeouts,
            memory=self._shared.memory,
            busy_time=self._shared.busy_time,
            renewed=keeper.renewed,
            open_group=open_group,
        )

    def _details(self, beside: str | None) -> str:
        if beside is not None:
            return f" beside {beside}"
        used = checkpoints.disk_use(self._shared.cache_dir / "checkpoints")
        return f"; checkpoints here take {used / 1e6:.1f} MB"

    def _settle(self, delivery: Delivery) -> None:
        """Deliver its last words while its lease is still kept; on leaving, as long as the grace allows."""
        self._shared.spool.add(delivery)
        deadline = time.monotonic() + self._shared.timeouts.grace_s / 2
        while not self.deliver(only=delivery.lease_id):
            if self._shared.leaving.is_set() and time.monotonic() > deadline:
                return
