"""Renews a lease while its trial makes progress.

The heartbeats come from a thread of the agent: in the training process, a long call that holds the interpreter's lock
would delay them until the lease expires.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.leases import Answer
from worker.agent.backoff import Backoff
from worker.agent.events import LeaseRevoked, VerdictReceived

log = logging.getLogger(__name__)

LOST = (problems.LeaseLost, problems.NotFound, problems.Gone)
"""Answers that say that the lease is lost. After any other problem the next heartbeat may succeed."""


class Heartbeats(Protocol):
    """What a lease keeper needs of the client."""

    def heartbeat(self, lease_id: UUID, /) -> Answer:
        """Renew the lease."""
        ...


class LeaseKeeper:
    """Sends a heartbeat for one lease whenever a quarter of its ttl has passed since the last renewal.

    Reports renew the lease too, but their answers do not say that the worker is to leave. So a heartbeat is sent at the
    latest when the whole ttl has passed since the last one, however often the trial reports.

    Args:
        client: the client of the service.
        lease_id: the lease to keep.
        ttl_s: the seconds that the lease holds after a renewal.
        tell: is called, from the keeper's thread, with a verdict other than `continue` or the loss of the lease.
        moves: tells whether the trial makes progress; no heartbeat is sent while it does not.
        leave: is called, from the keeper's thread, when the service asks the worker to leave.
    """

    def __init__(
        self,
        client: Heartbeats,
        lease_id: UUID,
        ttl_s: float,
        tell: Callable[[VerdictReceived | LeaseRevoked], None],
        moves: Callable[[], bool],
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._lease_id = lease_id
        self._tell = tell
        self._moves = moves
        self._leave = leave
        self._chance = random.Random()  # noqa: S311 - jitter, no secret
        self._backoff = Backoff()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)
        self._ask_anew(ttl_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()

    def renewed(self, ttl_s: float) -> None:
        """Count from now, because a heartbeat or a report has just renewed the lease."""
        # The jitter spreads the heartbeats of workers that were started together.
        self._ttl_s = ttl_s
        soon = time.monotonic() + ttl_s / 4 * self._chance.uniform(0.9, 1.1)
        self._next = min(soon, self._ask_by)

    def seconds_left(self) -> float:
        """Return the seconds until the next heartbeat."""
        return max(0.0, self._next - time.monotonic())

    def join(self, timeout_s: float) -> None:
        """Wait until the keeper's thread has ended."""
        self._thread.join(timeout_s)

    def _ask_anew(self, ttl_s: float) -> None:
        """Count from now, because a heartbeat was answered, or is not to be sent."""
        self._ask_by = time.monotonic() + ttl_s
        self.renewed(ttl_s)

    def _keep(self) -> None:
        while not self._stopped.wait(self.seconds_left()):
            if self.seconds_left() > 0:
                continue
            # A heartbeat for a trial that is stuck would hold it on this worker for ever. Without one its lease expires
            # and another worker gets it. The keeper looks again after the next interval.
            if self._moves():
                self._beat()
            else:
                self._ask_anew(self._ttl_s)

    def _beat(self) -> None:
        try:
            answer = self._client.heartbeat(self._lease_id)
        except LOST as problem:
            self._stopped.set()
            self._tell(LeaseRevoked(self._lease_id, problem))
        except Exception as error:  # noqa: BLE001 - a lease must not end because its keeper failed
            # The keeper goes on even after the ttl has passed by its own clock: the service may have extended the lease
            # (after an outage of its own), and only its answer ends it.
            log.warning(
                "lease %s could not be renewed, trying again: %s", self._lease_id, error
            )
            self._next = time.monotonic() + min(self._backoff.next(), self._ttl_s / 4)
        else:
            self._backoff.reset()
            self._ask_anew(answer.ttl_s)
            if answer.draining:
                self._leave()
            if answer.verdict != "continue":
                self._tell(VerdictReceived(self._lease_id, answer.verdict))
