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

from trimtab.contract import problems
from trimtab.contract.leases import Lease
from trimtab.contract.workers import Registration, Worker
from worker import checkpoints, grouping
from worker.agent import lease_slot
from worker.agent.events import DrainRequested, Event, EventRouter
from worker.agent.lease_slot import LeaseSlot, Shared
from worker.agent.memory_findings import Memory
from worker.agent.runner_process import RunnerProcess
from worker.agent.spool import Spool
from worker.agent.stall_detector import BusyTime, Timeouts
from worker.agent.trial_group import TrialGroup
from worker.agent.warm_runner import CannotWork, WarmRunner
from worker.pipe_messages import Ready

log = logging.getLogger(__name__)

CLAIM_WAIT_S = 20.0
KEEP_COPIES_S = 24 * 3600.0


class ServiceCalls(lease_slot.ServiceCalls, Protocol):
    """What an agent needs of the client."""

    def register(self, registration: Registration, /) -> Worker:
        """Introduce a worker."""
        ...


@dataclass(frozen=True)
class Plan:
    """How this agent works: what its settings come down to."""

    server: str
    label: str
    cache_dir: Path
    runner: Sequence[str]
    """The command line of the runner."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    exit_when_idle_s: float | None = None
    together: int = 1
    """So many trials at a time, where the runner takes company."""


class Agent:
    """One worker: one device, one runner, and one trial at a time, or several alike that it trains together.

    Args:
        client: the service; it should try each request once, since the agent has its own patience.
        plan: how to work.
    """

    def __init__(self, client: ServiceCalls, plan: Plan) -> None:
        self._client = client
        self._plan = plan
        self._leaving = threading.Event()
        shared = Shared(
            client=client,
            server=plan.server,
            spool=Spool(plan.cache_dir / "spool", plan.server),
            memory=Memory(client),
            cache_dir=plan.cache_dir,
            timeouts=plan.timeouts,
            busy_time=BusyTime(),
            leaving=self._leaving,
        )
        self._lead = LeaseSlot(shared, self._heed)
        self._slots = (self._lead, *(LeaseSlot(shared) for _ in range(1, plan.together)))
        self._post = EventRouter([slot.events for slot in self._slots])
        self._runner = WarmRunner(
            plan.runner, self._lead.events, self._post, self._leaving.is_set
        )
        self._worker: Worker | None = None
        self._may_group = True
        self._busy_at = time.monotonic()

    @property
    def is_leaving(self) -> bool:
        """Whether it was told to leave."""
        return self._leaving.is_set()

    def leave(self) -> None:
        """Put the trials aside and return from `run`; safe in a signal handler."""
        self._leaving.set()
        self._post.put(DrainRequested())

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
        if not self._lead.deliver():
            return
        warm = self._runner.get()
        if warm is None:
            self._lead.rest()
        elif self._worker is None:
            self._register(*warm)
        else:
            lease = self._claim(self._worker)
            if lease is not None:
                self._work(self._worker, lease)
                self._busy_at = time.monotonic()

    def _is_idle(self) -> bool:
        patience = self._plan.exit_when_idle_s
        return patience is not None and time.monotonic() - self._busy_at >= patience

    def _heed(self, event: Event) -> None:
        self._runner.take(event)

    # The service

    def _register(self, _: RunnerProcess, ready: Ready) -> None:
        registration = Registration(
            label=self._plan.label,
            device=ready.device,
            memory_bytes=ready.memory_bytes,
            capacity=self._plan.together,
        )
        try:
            self._worker = self._client.register(registration)
        except problems.Problem as problem:
            self._cope(problem)
        else:
            self._lead.backoff.reset()
            self._busy_at = time.monotonic()
            log.info("%s works for %s on %s", self._plan.label, self._plan.server, ready.device)

    def _claim(self, worker: Worker) -> Lease | None:
        try:
            for other in self._slots[1:]:
                other.claimer.forgo()
            lease = self._lead.claimer.claim(worker.worker_id, self._claim_wait())
        except problems.WorkerNotFound:
            self._worker = None
            return None
        except problems.Problem as problem:
            self._cope(problem)
            return None
        self._lead.backoff.reset()
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
        self._lead.rest()

    # The trials

    def _work(self, worker: Worker, lease: Lease) -> None:
        """Run a trial, and those that join it."""
        joined = self._may_group and grouping.is_likely_to_share(lease)
        slots = self._slots if joined else self._slots[:1]
        group = TrialGroup(lease, worker.worker_id, slots, self._leaving)
        group.run(self._warm_runner)
        if group.have_failed:
            # One of them did it, and would do it again to all: alone, it harms itself only.
            log.warning("from now on trials run alone here, until this worker is restarted")
            self._may_group = False
        self._runner.after_trial(crashed=group.has_crashed)

    def _warm_runner(self) -> RunnerProcess | None:
        # It was warm when we asked, but may have died while we waited for an answer.
        warm = self._runner.get()
        if warm is None:
            return None
        for kept in ("checkpoints", "teachers"):
            checkpoints.sweep(
                self._plan.cache_dir / kept, older_than=time.time() - KEEP_COPIES_S
            )
        return warm[0]
