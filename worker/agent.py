"""The agent: claim, run, settle, repeat; whatever happens to the runner, the service or the machine.

A small process that never imports torch: it renews leases and speaks for a runner that is busy, hung or dead.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.leases import (
    Answer,
    Failed,
    Lease,
    Reports,
)
from trimtab.contract.workers import Registration, Worker
from worker import attempt, checkpoints, claiming, memory, spool
from worker.attempt import Attempt
from worker.backoff import Backoff
from worker.claiming import Claimer
from worker.inbox import Drain, Inbox
from worker.lease_keeper import Heartbeats, LeaseKeeper
from worker.memory import Memory
from worker.patience import Limits
from worker.pipe_messages import Ready
from worker.runner_process import RunnerProcess
from worker.spool import Spool
from worker.warm_runner import CannotWork, WarmRunner

log = logging.getLogger(__name__)

CLAIM_WAIT_S = 20.0
KEEP_COPIES_S = 24 * 3600.0


class Verbs(attempt.Verbs, spool.Verbs, claiming.Verbs, memory.Verbs, Heartbeats, Protocol):
    """What an agent needs of the client."""

    def register(self, registration: Registration, /) -> Worker:
        """Introduce a worker."""
        ...

    def report(self, lease_id: UUID, reports: Reports, /) -> Answer:
        """Store intermediate values."""
        ...


@dataclass(frozen=True)
class Plan:
    """How this agent works: what its settings come down to."""

    server: str
    label: str
    cache_dir: Path
    runner: Sequence[str]
    """The command line of the runner."""
    limits: Limits = field(default_factory=Limits)
    exit_when_idle_s: float | None = None


class Agent:
    """One worker: one device, one trial at a time.

    Args:
        client: the service; it should try each request once, since the agent has its own patience.
        plan: how to work.
    """

    def __init__(self, client: Verbs, plan: Plan) -> None:
        self._client = client
        self._plan = plan
        self._inbox = Inbox()
        self._leaving = threading.Event()
        self._backoff = Backoff()
        self._spool = Spool(plan.cache_dir / "spool", plan.server)
        self._runner = WarmRunner(plan.runner, self._inbox, self._leaving.is_set)
        self._worker: Worker | None = None
        self._claimer = Claimer(client, self._inbox, self._runner.take)
        self._memory = Memory(client)
        self._busy_at = time.monotonic()

    @property
    def is_leaving(self) -> bool:
        """Whether it was told to leave."""
        return self._leaving.is_set()

    def leave(self) -> None:
        """Put the trial aside and return from `run`; safe in a signal handler."""
        self._leaving.set()
        self._inbox.put(Drain())

    def run(self) -> None:
        """Work until told to leave, or until idle for as long as the plan allows.

        Raises:
            CannotWork: the device is not there, or the service refuses this worker.
            problems.Unreachable: idle for as long as allowed, and no service ever answered.
        """
        try:
            while not self.is_leaving and not self._is_idle():
                self._once()
            if self._worker is None and not self.is_leaving:
                raise problems.Unreachable(
                    f"No trimtab service answers at {self._plan.server}."
                )
        finally:
            self._runner.stop()

    def _once(self) -> None:
        """Take the next step that is due."""
        if not self._deliver():
            return
        warm = self._runner.get()
        if warm is None:
            self._rest()
        elif self._worker is None:
            self._register(*warm)
        else:
            lease = self._claim(self._worker)
            if lease is not None:
                self._work(lease)
                self._busy_at = time.monotonic()

    def _is_idle(self) -> bool:
        patience = self._plan.exit_when_idle_s
        return patience is not None and time.monotonic() - self._busy_at >= patience

    # The service

    def _register(self, _: RunnerProcess, ready: Ready) -> None:
        registration = Registration(
            label=self._plan.label, device=ready.device, memory_bytes=ready.memory_bytes
        )
        try:
            self._worker = self._client.register(registration)
        except problems.Problem as problem:
            self._cope(problem)
        else:
            self._backoff.reset()
            self._busy_at = time.monotonic()
            log.info("%s works for %s on %s", self._plan.label, self._plan.server, ready.device)

    def _claim(self, worker: Worker) -> Lease | None:
        try:
            lease = self._claimer.claim(worker.worker_id, self._claim_wait())
        except problems.WorkerNotFound:
            self._worker = None
            return None
        except problems.Problem as problem:
            self._cope(problem)
            return None
        self._backoff.reset()
        return lease

    def _claim_wait(self) -> float:
        patience = self._plan.exit_when_idle_s
        if patience is None:
            return CLAIM_WAIT_S
        return max(0.0, min(CLAIM_WAIT_S, self._busy_at + patience - time.monotonic()))

    def _cope(self, problem: problems.Problem) -> None:
        """Rest if it may pass.

        Raises:
            CannotWork: it will not.
        """
        status = problems.row_of(type(problem)).status
        for_good = status in (400, 401, 404, 405, 410, 413, 415, 422)
        if for_good or isinstance(problem, problems.WorkerQuarantined):
            raise CannotWork(f"{self._plan.server} refuses this worker: {problem}") from problem
        log.warning("%s: %s", self._plan.server, problem)
        self._rest()

    def _rest(self) -> None:
        """Wait a while, longer each time, unless something happens, which is heeded."""
        event = self._inbox.get(self._backoff.next())
        if event is not None:
            self._runner.take(event)

    # One lease

    def _work(self, lease: Lease) -> None:
        begun: list[Attempt] = []
        keeper = LeaseKeeper(
            self._client,
            lease.lease_id,
            lease.ttl_s,
            self._inbox.put,
            lambda: all(attempt.moves() for attempt in begun),
        )
        with keeper:
            # It was warm when we asked, but may have died while we waited for an answer.
            warm = self._runner.get()
            if warm is None:
                self._claimer.give_back(lease)
                return
            work = self._attempt(lease, warm[0], keeper)
            begun.append(work)
            used = checkpoints.disk_use(self._plan.cache_dir / "checkpoints")
            log.info("%s: begun; checkpoints here take %.1f MB", work.name, used / 1e6)
            delivery = work.run()
            if delivery is not None:
                self._spool.add(delivery)
                self._deliver_patiently()
        ending = None if delivery is None else delivery.ending
        self._runner.after_trial(
            crashed=isinstance(ending, Failed) and ending.error == "crashed"
        )

    def _attempt(self, lease: Lease, runner: RunnerProcess, keeper: LeaseKeeper) -> Attempt:
        root = self._plan.cache_dir / "checkpoints"
        teachers = self._plan.cache_dir / "teachers"
        for kept in (root, teachers):
            checkpoints.sweep(kept, older_than=time.time() - KEEP_COPIES_S)
        return Attempt(
            lease,
            client=self._client,
            runner=runner,
            inbox=self._inbox,
            folder=checkpoints.folder_of(root, lease),
            teachers=teachers,
            limits=self._plan.limits,
            memory=self._memory,
            renewed=keeper.renewed,
        )

    # Last words

    def _deliver(self) -> bool:
        """Deliver what waits; False when the service is away, after a rest."""
        try:
            self._spool.empty(self._client)
        except problems.Unavailable as problem:
            log.warning("an outcome waits for %s: %s", self._plan.server, problem)
            self._rest()
            return False
        except problems.Problem as problem:
            # The token is no longer right: it waits for a restart, which the next claim will ask for.
            log.warning("an outcome waits for another token: %s", problem)
        return True

    def _deliver_patiently(self) -> None:
        """Deliver while the lease is still kept; on leaving, as long as the grace allows."""
        deadline = time.monotonic() + self._plan.limits.grace_s / 2
        while not self._deliver():
            if self.is_leaving and time.monotonic() > deadline:
                return
