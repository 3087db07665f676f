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
from worker import attempt, checkpoints, claiming, memory, spool
from worker.attempt import Attempt
from worker.backoff import Backoff
from worker.claiming import Claimer
from worker.inbox import Event, Inbox
from worker.lease_keeper import Heartbeats, LeaseKeeper
from worker.memory import Memory
from worker.patience import KeptWaiting, Limits
from worker.runner_process import RunnerProcess
from worker.spool import Delivery, Spool

log = logging.getLogger(__name__)


class Verbs(attempt.Verbs, spool.Verbs, claiming.Verbs, memory.Verbs, Heartbeats, Protocol):
    """What a lane needs of the client."""

    def report(self, lease_id: UUID, reports: Reports, /) -> Answer:
        """Store intermediate values."""
        ...


@dataclass(frozen=True)
class Shared:
    """What the lanes of one agent share, each from a thread of its own."""

    client: Verbs
    server: str
    spool: Spool
    memory: Memory
    cache_dir: Path
    limits: Limits
    kept_waiting: KeptWaiting
    leaving: threading.Event
    """Set when the agent was told to leave."""


class Lane:
    """Runs one lease at a time.

    Args:
        shared: what it has in common with the others.
        heed: is given what comes while no attempt listens.
    """

    def __init__(
        self, shared: Shared, heed: Callable[[Event], None] = lambda event: None
    ) -> None:
        self.inbox = Inbox()
        self.claimer = Claimer(shared.client, self.inbox, heed)
        self.backoff = Backoff()
        self._shared = shared
        self._heed = heed

    def run(
        self,
        lease: Lease,
        warm: Callable[[], RunnerProcess | None],
        *,
        beside: str | None = None,
        welcome: Callable[[RunnerProcess], None] = lambda runner: None,
    ) -> Outcome | Release | None:
        """Run a lease and settle it; return how it ended, None when it was lost or not begun.

        Args:
            lease: what to run.
            warm: waits for the runner; with none the lease is given back.
            beside: the name of the trial that it joins on that runner, if there is one.
            welcome: is called when the runner takes company.
        """
        begun: list[Attempt] = []
        with self._keeper(lease, begun) as keeper:
            runner = warm()
            if runner is None:
                self.claimer.give_back(lease)
                return None
            work = self._attempt(lease, runner, keeper, lambda: welcome(runner))
            begun.append(work)
            log.info("%s: begun%s", work.name, self._details(beside))
            delivery = work.run()
            self.inbox.lease_id = None
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
        event = self.inbox.get(self.backoff.next())
        if event is not None:
            self._heed(event)

    def _keeper(self, lease: Lease, begun: list[Attempt]) -> LeaseKeeper:
        return LeaseKeeper(
            self._shared.client,
            lease.lease_id,
            lease.ttl_s,
            self.inbox.put,
            lambda: all(work.moves() for work in begun),
        )

    def _attempt(
        self,
        lease: Lease,
        runner: RunnerProcess,
        keeper: LeaseKeeper,
        welcome: Callable[[], None],
    ) -> Attempt:
        self.inbox.lease_id = lease.lease_id
        return Attempt(
            lease,
            client=self._shared.client,
            runner=runner,
            inbox=self.inbox,
            folder=checkpoints.folder_of(self._shared.cache_dir / "checkpoints", lease),
            teachers=self._shared.cache_dir / "teachers",
            limits=self._shared.limits,
            memory=self._shared.memory,
            kept_waiting=self._shared.kept_waiting,
            renewed=keeper.renewed,
            welcome=welcome,
        )

    def _details(self, beside: str | None) -> str:
        if beside is not None:
            return f" beside {beside}"
        used = checkpoints.disk_use(self._shared.cache_dir / "checkpoints")
        return f"; checkpoints here take {used / 1e6:.1f} MB"

    def _settle(self, delivery: Delivery) -> None:
        """Deliver its last words while its lease is still kept; on leaving, as long as the grace allows."""
        self._shared.spool.add(delivery)
        deadline = time.monotonic() + self._shared.limits.grace_s / 2
        while not self.deliver(only=delivery.lease_id):
            if self._shared.leaving.is_set() and time.monotonic() > deadline:
                return
