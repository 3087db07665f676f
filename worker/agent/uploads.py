"""Training states on their way to the service, while training goes on."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.leases import CheckpointReport
from worker.pipe_messages import SavedState

log = logging.getLogger(__name__)

EVERY_S = 60.0
BEST_EVERY_S = 2.0
SHARE = 0.05
"""At most this part of the time goes into uploading new bests."""


class ServiceCalls(Protocol):
    """What uploads need of the client."""

    def upload(self, path: Path, sha256: str, /) -> None:
        """Store a file's bytes."""
        ...

    def checkpoint(self, lease_id: UUID, report: CheckpointReport, /) -> None:
        """Record a training state."""
        ...


@dataclass(frozen=True)
class Pair:
    """The newest state, and that of the best epoch."""

    newest: SavedState
    best: SavedState | None

    def report(self) -> CheckpointReport:
        """Shape it for the service."""
        best = None if self.best is None else self.best.checkpoint()
        return CheckpointReport(checkpoint=self.newest.checkpoint(), best=best)

    def states(self) -> tuple[SavedState, ...]:
        """List both, the best first: a report must not name what is not stored."""
        if self.best is None or self.best.sha256 == self.newest.sha256:
            return (self.newest,)
        return (self.best, self.newest)


def is_due(pair: Pair, last: Pair | None, waited_s: float, took_s: float) -> bool:
    """Tell whether to upload: a new best soon, anything new after a minute, since an upload is not free.

    Args:
        pair: what there is.
        last: what was uploaded last.
        waited_s: since that began.
        took_s: by it.
    """
    if last is not None and pair.newest.sha256 == last.newest.sha256:
        return False
    new_best = pair.best is not None and (last is None or pair.best != last.best)
    return waited_s >= (max(BEST_EVERY_S, took_s / SHARE) if new_best else EVERY_S)


class Uploads:
    """Sends the states of one lease, one upload at a time, each in a thread of its own.

    Args:
        client: where they go.
        lease_id: whose they are.
        waited_s: tells how long ago a monotonic time was.
    """

    def __init__(
        self,
        client: ServiceCalls,
        lease_id: UUID,
        waited_s: Callable[[float], float] = lambda since: time.monotonic() - since,
    ) -> None:
        self._client = client
        self._waited_s = waited_s
        self._lease_id = lease_id
        self._last: Pair | None = None
        self._last_at = time.monotonic()
        self._took_s = 0.0
        self._thread: threading.Thread | None = None
        self._stored: set[str] = set()

    def offer(self, pair: Pair) -> None:
        """Begin to upload if it is due and nothing is on its way."""
        busy = self._thread is not None and self._thread.is_alive()
        if busy or not is_due(pair, self._last, self._waited_s(self._last_at), self._took_s):
            return
        self._last_at = time.monotonic()
        self._thread = threading.Thread(
            target=self._send, args=(pair,), name="upload", daemon=True
        )
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Wait for the upload that is on its way."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def missing(self, pair: Pair) -> tuple[SavedState, ...]:
        """List the states that the service does not have yet."""
        return tuple(state for state in pair.states() if state.sha256 not in self._stored)

    def _send(self, pair: Pair) -> None:
        try:
            for state in self.missing(pair):
                self._client.upload(state.path, state.sha256)
                self._stored.add(state.sha256)
            self._client.checkpoint(self._lease_id, pair.report())
        except (problems.Problem, OSError) as error:
            if isinstance(error, problems.ArtifactNotFound):
                self._stored.clear()  # collected, while the other one was on its way
            # The next one, or the end of the attempt, tries again; a lost lease is the keeper's to notice.
            log.info("checkpoint after step %d was not uploaded: %s", pair.newest.step, error)
        else:
            self._last = pair
        self._took_s = time.monotonic() - self._last_at
