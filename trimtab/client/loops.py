"""Trials for loops of a person's own: each loop is a worker, which claims one trial after the other."""

import os
import re
import socket
import threading
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from trimtab.client.loop_trial import LoopTrial
from trimtab.client.worker_verbs import WorkerVerbs
from trimtab.contract import problems
from trimtab.contract.external_leases import ExternalLease
from trimtab.contract.leases import LeaseRequest, Release
from trimtab.contract.message import LONGEST_NAME
from trimtab.contract.studies import Study
from trimtab.contract.trials import Trial
from trimtab.contract.workers import Registration

CLAIM_WAIT_S = 5.0
"""How long the service may hold a claim open while there is no trial; then the loop looks whether the study is over."""
OVER = ("done", "cancelled", "deleting")
DEVICE = "own loop"


class Verbs(Protocol):
    """What loops need of the client beside the lease protocol."""

    def study(self, name: str, /) -> Study:
        """Return one study as it is now."""
        ...

    def read_trial(self, name: str, number: int, /) -> Trial:
        """Return one trial with its attempts."""
        ...


@dataclass
class LoopWorker:
    """One loop, as the service knows it; its claim keeps its id until it has got a trial."""

    worker_id: UUID
    claim_id: UUID = field(default_factory=uuid.uuid4)


class Loops:
    """Gives trials to the loops of this process. Threads may share it: each trial at a time is a worker of its own."""

    def __init__(self, client: WorkerVerbs, verbs: Verbs) -> None:
        self._client = client
        self._verbs = verbs
        self._idle: dict[tuple[str, str, int], list[LoopWorker]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def one(
        self, study: str, label: str | None, silent_s: float | None
    ) -> Generator[LoopTrial]:
        """Claim one trial, wait for it if need be, and end it with the block.

        Raises:
            problems.StudyNotActive: the study has no more trials.
            problems.WorkerDraining: the loop was asked to leave.
        """
        trial = self._next(study, label, silent_s)
        if trial is None:
            state = self._verbs.study(study).state
            raise problems.StudyNotActive(
                f"The study {study} is {state}, and has no more trials.", state=state
            )
        with trial:
            yield trial

    def all(
        self, study: str, label: str | None, silent_s: float | None
    ) -> Generator[LoopTrial]:
        """Yield one trial after the other, until the study is over, or the loop was asked to leave.

        Raises:
            problems.Invalid: the last trial was not ended by a `with` block.
        """
        while (trial := self._next_or_leave(study, label, silent_s)) is not None:
            try:
                yield trial
                if not trial.is_over:
                    raise problems.Invalid(
                        f"Trial {trial.number} was not ended: train it within `with trial:`, which tells the service."
                    )
            finally:
                trial.give_back()

    def _next_or_leave(
        self, study: str, label: str | None, silent_s: float | None
    ) -> LoopTrial | None:
        try:
            return self._next(study, label, silent_s)
        except problems.WorkerDraining:
            return None

    def _next(self, study: str, label: str | None, silent_s: float | None) -> LoopTrial | None:
        key = (study, label or _own_label(), os.getpid())
        worker = self._worker(key)
        try:
            lease = self._claimed(key, worker)
        except problems.WorkerDraining:
            raise  # The worker is not used again: whoever calls anew gets a new one.
        except problems.Problem:
            # The claim may have been served although its answer was lost: its next one is answered with the same trial.
            self._free(key, worker)
            raise
        except KeyboardInterrupt:
            self._forgo(worker)
            raise
        if lease is None:
            self._free(key, worker)
            return None
        return LoopTrial(
            self._client,
            lease,
            silent_s=silent_s,
            earlier=lambda: self._last_value(lease),
            left=lambda: self._free(key, worker),
        )

    def _claimed(self, key: tuple[str, str, int], worker: LoopWorker) -> ExternalLease | None:
        """Claim until there is a trial; None: the study is over."""
        wait_s = 0.0  # after the last trial, the study is over already
        while True:
            try:
                found = self._client.claim_external(_request(worker, wait_s)).leases
            except problems.LeaseLost:  # what this claim got is over
                worker.claim_id = uuid.uuid4()
                continue
            except problems.WorkerNotFound:
                worker.worker_id = self._registered(key)
                continue
            if found:
                worker.claim_id = uuid.uuid4()
                return found[0]
            if self._verbs.study(key[0]).state in OVER:
                return None
            wait_s = CLAIM_WAIT_S

    def _forgo(self, worker: LoopWorker) -> None:
        """Give back what an unanswered claim may have got."""
        with suppress(problems.Problem):
            for lease in self._client.claim_external(_request(worker, 0.0)).leases:
                self._client.release(lease.lease_id, Release(reason="drain"))

    def _worker(self, key: tuple[str, str, int]) -> LoopWorker:
        with self._lock:
            idle = self._idle.get(key)
            if idle:
                return idle.pop()
        return LoopWorker(self._registered(key))

    def _free(self, key: tuple[str, str, int], worker: LoopWorker) -> None:
        with self._lock:
            self._idle.setdefault(key, []).append(worker)

    def _registered(self, key: tuple[str, str, int]) -> UUID:
        study, label, _ = key
        registration = Registration(label=label, device=DEVICE, study=study)
        return self._client.register(registration).worker_id

    def _last_value(self, lease: ExternalLease) -> float | None:
        curve = self._verbs.read_trial(lease.study, lease.trial_number).curve
        return next((one.value for one in reversed(curve) if one.value is not None), None)


def _request(worker: LoopWorker, wait_s: float) -> LeaseRequest:
    return LeaseRequest(worker_id=worker.worker_id, claim_id=worker.claim_id, wait_s=wait_s)


def _own_label() -> str:
    """Return a label that tells loops of other processes and machines apart."""
    end = f"-{os.getpid()}"
    host = re.sub(r"[^a-z0-9._-]", "-", socket.gethostname().lower()).strip("._-") or "loop"
    return host[: LONGEST_NAME - len(end)] + end
