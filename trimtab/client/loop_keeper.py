"""Keeps the lease of a trial that this process trains, in a thread beside its training loop."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.leases import Answer, Verdict

log = logging.getLogger(__name__)

LOST = (problems.LeaseLost, problems.LeaseNotFound, problems.Gone)
"""Answers that say that the lease is lost. After any other problem the next heartbeat may succeed."""

SEVERITY: tuple[Verdict, ...] = ("continue", "stop", "finish", "pause", "cancel")
"""Verdicts from the mildest to the gravest. A verdict that was received is never replaced by a milder one."""

RETRY_S = 1.0


class Heartbeats(Protocol):
    """What a keeper needs of the client."""

    def heartbeat(self, lease_id: UUID, /) -> Answer:
        """Renew the lease."""
        ...


class LoopKeeper:
    """Renews one lease whenever a quarter of its time has passed, and remembers what the service says meanwhile.

    Args:
        client: The client of the service.
        lease_id: The lease to keep.
        ttl_s: The seconds that the lease holds after a renewal.
        silent_s: The seconds without a word of the loop after which the lease is no longer renewed; None: never.
        clock: The monotonic clock, in seconds.
    """

    def __init__(
        self,
        client: Heartbeats,
        lease_id: UUID,
        ttl_s: float,
        silent_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.verdict: Verdict = "continue"
        """The gravest verdict so far."""
        self.lost: problems.Problem | None = None
        """What the service said when the lease was lost."""
        self._client = client
        self._lease_id = lease_id
        self._silent_s = silent_s
        self._clock = clock
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="loop-keeper", daemon=True)
        self.spoke(Answer(verdict="continue", ttl_s=ttl_s))

    def start(self) -> None:
        """Begin to renew the lease."""
        self._thread.start()

    def stop(self) -> None:
        """Renew the lease no more."""
        self._stopped.set()

    def spoke(self, answer: Answer | None = None) -> None:
        """Note that the loop lives, and the answer to its report, which has renewed the lease."""
        self._spoke_at = self._clock()
        if answer is not None:
            self._heard(answer)

    def lose(self, problem: problems.Problem) -> None:
        """Note that the lease is lost."""
        self.lost = problem
        self._stopped.set()

    def beat(self) -> float:
        """Renew the lease, unless the loop has been silent for too long; return the seconds until the next time."""
        now = self._clock()
        if self._silent_s is not None and now - self._spoke_at >= self._silent_s:
            silence = now - self._spoke_at
            log.warning(
                "the loop has said nothing for %.0f s: its lease is not renewed", silence
            )
            return self._ttl_s / 4
        try:
            self._heard(self._client.heartbeat(self._lease_id))
        except LOST as problem:
            self.lose(problem)
        except Exception as error:  # noqa: BLE001 - a lease must not end because its keeper failed
            if self._stopped.is_set():
                return 0.0
            log.warning(
                "lease %s could not be renewed, trying again: %s", self._lease_id, error
            )
            return min(RETRY_S, self._ttl_s / 4)
        return self._next - self._clock()

    def _heard(self, answer: Answer) -> None:
        with self._lock:
            self._ttl_s = answer.ttl_s
            self._next = self._clock() + answer.ttl_s / 4
            if SEVERITY.index(answer.verdict) > SEVERITY.index(self.verdict):
                self.verdict = answer.verdict

    def _keep(self) -> None:
        wait = self._next - self._clock()
        while not self._stopped.wait(max(0.0, wait)):
            # A report may have renewed it meanwhile.
            wait = self._next - self._clock()
            if wait <= 0:
                wait = self.beat()
