"""Keeps a lease while its trial moves: a thread of the agent, so that a busy trainer cannot starve it."""

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
"""What says that the lease is no longer ours; anything else may pass."""


class Heartbeats(Protocol):
    """The one verb that a keeper needs of the client."""

    def heartbeat(self, lease_id: UUID, /) -> Answer:
        """Renew the lease."""
        ...


class LeaseKeeper:
    """Renews one lease at a quarter of its ttl, counted from the last renewal whoever made it.

    A heartbeat for a trial that does not move would be a lie, so none is sent while `moves` is false. An
    unreachable service is asked again and again: only its word ends a lease, never the keeper's own clock.

    Args:
        client: where the heartbeats go.
        lease_id: the lease to keep.
        ttl_s: for how long it holds after each renewal.
        tell: is called with what the answers say; from the keeper's thread.
        moves: whether the trial makes progress.
    """

    def __init__(
        self,
        client: Heartbeats,
        lease_id: UUID,
        ttl_s: float,
        tell: Callable[[VerdictReceived | LeaseRevoked], None],
        moves: Callable[[], bool],
    ) -> None:
        self._client = client
        self._lease_id = lease_id
        self._tell = tell
        self._moves = moves
        self._chance = random.Random()  # noqa: S311 - jitter, no secret
        self._backoff = Backoff()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)
        self.renewed(ttl_s)

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
        """Count from now: a report has just renewed the lease too."""
        self._ttl_s = ttl_s
        self._next = time.monotonic() + ttl_s / 4 * self._chance.uniform(0.9, 1.1)

    def seconds_left(self) -> float:
        """Return how long it is until the next heartbeat."""
        return max(0.0, self._next - time.monotonic())

    def join(self, timeout_s: float) -> None:
        """Wait until it keeps the lease no longer."""
        self._thread.join(timeout_s)

    def _keep(self) -> None:
        while not self._stopped.wait(self.seconds_left()):
            if self.seconds_left() > 0:
                continue
            if self._moves():
                self._beat()
            else:
                self.renewed(self._ttl_s)

    def _beat(self) -> None:
        try:
            answer = self._client.heartbeat(self._lease_id)
        except LOST as problem:
            self._stopped.set()
            self._tell(LeaseRevoked(self._lease_id, problem))
        except Exception as error:  # noqa: BLE001 - a lease must not end because its keeper stumbled
            log.warning("lease %s could not be renewed: %s", self._lease_id, error)
            self._next = time.monotonic() + min(self._backoff.next(), self._ttl_s / 4)
        else:
            self._backoff.reset()
            self.renewed(answer.ttl_s)
            if answer.verdict != "continue":
                self._tell(VerdictReceived(self._lease_id, answer.verdict))
