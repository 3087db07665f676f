"""The agent: claims a lease, has its runner train it, settles it, and repeats.

The agent is a process of its own, apart from the runner that trains. A training process can spend minutes in one call
of a library, can hang in a driver, and can be killed for its memory. The agent stays small, and never imports torch, so
that it renews the leases meanwhile and reports what became of a runner that can no longer speak.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from trimtab.contract import problems
from trimtab.contract.leases import Lease
from trimtab.contract.workers import Registration, Worker
from worker import checkpoints, disk_cache, grouping
from worker.agent import lease_slot
from worker.agent.events import DrainRequested, Event, EventRouter
from worker.agent.lease_slot import LeaseSlot, Shared
from worker.agent.memory_findings import Memory
from worker.agent.runner_process import RunnerProcess
from worker.agent.spool import Spool
from worker.agent.stall_detector import BusyTime, Timeouts
from worker.agent.trial_group import TrialGroup
from worker.agent.warm_runner import CannotWork, WarmRunner
from worker.fetching import origins
from worker.fetching.allowed import Allowed
from worker.fetching.store import Store
from worker.pipe_messages import Ready

log = logging.getLogger(__name__)

CLAIM_WAIT_S = 20.0
"""How long the service may hold a claim open while there is no trial; it answers as soon as there is one."""
KEEP_COPIES_S = 24 * 3600.0
"""Checkpoints and teachers that were not used for this long are removed; the service has them."""


class ServiceCalls(lease_slot.ServiceCalls, Protocol):
    """What an agent needs of the client."""

    def register(self, registration: Registration, /) -> Worker:
        """Introduce a worker."""
        ...


@dataclass(frozen=True)
class Plan:
    """How this agent works, as its settings determine it."""

    server: str
    label: str
    cache_dir: Path
    runner: Sequence[str]
    """The command line of the runner."""
    runner_environment: Mapping[str, str] | None = None
    """The environment of the runner; None hands on what a training process needs of this process's own."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    exit_when_idle_s: float | None = None
    cache_bytes: int | None = None
    """The bound of what the cache keeps of data; None leaves a tenth of the disk free."""
    allowed: Allowed = field(default_factory=Allowed)
    """The addresses that data may be fetched from."""
    together: int = 1
    """The most trials that the runner may train at a time, as a group."""


class Agent:
    """One worker: one device with one runner, which trains one trial at a time or a group of them.

    Args:
        client: the client of the service. It should try each request once: the agent itself waits and tries again.
        plan: the settings that this agent works by.
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
            store=Store(
                plan.cache_dir,
                plan.cache_bytes,
                plan.allowed,
                origins.of(plan.allowed, client),
            ),
            timeouts=plan.timeouts,
            busy_time=BusyTime(),
            leaving=self._leaving,
            leave=self._asked_to_leave,
        )
        self._lead = LeaseSlot(shared, self._on_event)
        self._slots = (self._lead, *(LeaseSlot(shared) for _ in range(1, plan.together)))
        self._router = EventRouter([slot.events for slot in self._slots])
        self._runner = WarmRunner(
            plan.runner,
            self._lead.events,
            self._router,
            self._leaving.is_set,
            plan.runner_environment,
        )
        self._worker: Worker | None = None
        self._may_group = True
        self._busy_at = time.monotonic()

    @property
    def is_leaving(self) -> bool:
        """Whether the agent was told to leave."""
        return self._leaving.is_set()

    def leave(self) -> None:
        """Release the trials and return from `run`; safe in a signal handler."""
        self._leaving.set()
        self._router.put(DrainRequested())

    def _asked_to_leave(self) -> None:
        """Leave because the service says so, which it says again until it is done."""
        if not self.is_leaving:
            log.info("%s asks this worker to leave", self._plan.server)
            self.leave()

    def run(self) -> None:
        """Work until told to leave, by a signal or by the service, or until idle for as long as the plan allows.

        Raises:
            CannotWork: the device does not exist, or the service refuses this worker.
            problems.Unreachable: the agent was idle for as long as allowed, and no service ever answered.
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
        # Outcomes that an earlier attempt left on disk go first: they may settle leases that the service still counts
        # as running. While they cannot be delivered, the service is away, and a claim would fail as well.
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

    def _on_event(self, event: Event) -> None:
        self._runner.take(event)

    # The service

    def _register(self, _: RunnerProcess, ready: Ready) -> None:
        registration = Registration(
            label=self._plan.label,
            device=ready.device,
            memory_bytes=ready.memory_bytes,
            capacity=self._plan.together,
            devices=ready.devices,
        )
        try:
            self._worker = self._client.register(registration)
        except problems.Problem as problem:
            self._cope(problem)
        else:
            self._lead.backoff.reset()
            self._busy_at = time.monotonic()
            log.info(
                "worker %s is registered at %s and trains on %s",
                self._plan.label,
                self._plan.server,
                ready.device,
            )

    def _claim(self, worker: Worker) -> Lease | None:
        try:
            # The service may have granted a trial to another slot's claim and its answer was lost. No slot runs such a
            # lease, so it is given back before the lead asks for the next one.
            for other in self._slots[1:]:
                other.claimer.forgo()
            lease = self._lead.claimer.claim(worker.worker_id, self._claim_wait())
        except problems.WorkerNotFound:
            self._worker = None
            return None
        except problems.WorkerDraining:
            self._asked_to_leave()
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
        """Wait for a while, if trying again later may succeed.

        Raises:
            CannotWork: the service refuses this worker, and will go on to.
        """
        status = problems.row_of(type(problem)).status
        for_good = status in (400, 401, 404, 405, 410, 413, 415, 422)
        if for_good or isinstance(problem, problems.WorkerQuarantined):
            raise CannotWork(f"{self._plan.server} refuses this worker: {problem}") from problem
        log.warning("a request to %s failed, trying again: %s", self._plan.server, problem)
        self._lead.rest()

    # The trials

    def _work(self, worker: Worker, lease: Lease) -> None:
        """Run a trial, and those that join it."""
        joined = self._may_group and grouping.is_likely_to_share(lease)
        slots = self._slots if joined else self._slots[:1]
        group = TrialGroup(lease, worker.worker_id, slots, self._leaving)
        group.run(self._warm_runner)
        if group.have_failed:
            # Nobody knows which trial of the group brought the runner down. The service queues all of them again. In a
            # group the same trial would take its neighbours along again; alone, only its own crashes are counted.
            log.warning(
                "the training process died with a group of trials: from now on this worker trains one trial at a "
                "time; restart the worker to allow groups again"
            )
            self._may_group = False
        self._runner.after_trial(crashed=group.has_crashed)
        disk_cache.collect(self._plan.cache_dir, self._plan.cache_bytes)

    def _warm_runner(self) -> RunnerProcess | None:
        # The runner was warm before the claim, but may have died while the claim waited for a trial.
        warm = self._runner.get()
        if warm is None:
            return None
        for kept in ("checkpoints", "teachers"):
            checkpoints.sweep(
                self._plan.cache_dir / kept, older_than=time.time() - KEEP_COPIES_S
            )
        return warm[0]
