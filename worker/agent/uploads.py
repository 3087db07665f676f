"""Uploads checkpoints to the service while training goes on."""

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
"""The largest part of the time that goes into uploads of new best states."""


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
    """The newest state and the best, which is the one to evaluate."""

    newest: SavedState
    best: SavedState | None

    def report(self) -> CheckpointReport:
        """Make the message that records both at the service."""
        best = None if self.best is None else self.best.checkpoint()
        return CheckpointReport(checkpoint=self.newest.checkpoint(), best=best)

    def states(self) -> tuple[SavedState, ...]:
        """List both, the best first, in the order in which they are uploaded."""
        if self.best is None or self.best.sha256 == self.newest.sha256:
            return (self.newest,)
        return (self.best, self.newest)


def is_due(pair: Pair, last: Pair | None, waited_s: float, took_s: float) -> bool:
    """Tell whether to upload now: a new best state soon, any other new state after a minute.

    Args:
        pair: the states that are on disk now.
        last: the states that were uploaded last, if any.
        waited_s: seconds since the last upload began.
        took_s: seconds that the last upload took.
    """
    if last is not None and pair.newest.sha256 == last.newest.sha256:
        return False
    new_best = pair.best is not None and (last is None or pair.best != last.best)
    return waited_s >= (max(BEST_EVERY_S, took_s / SHARE) if new_best else EVERY_S)


class Uploads:
    """Uploads the states of one lease, one upload at a time, each in a thread of its own.

    Args:
        client: the client of the service.
        lease_id: the lease whose states are uploaded.
        waited_s: returns the seconds that have passed since a monotonic time.
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
        """Begin to upload if that is due and no upload is under way."""
        busy = self._thread is not None and self._thread.is_alive()
        if busy or not is_due(pair, self._last, self._waited_s(self._last_at), self._took_s):
            return
        self._last_at = time.monotonic()
        self._thread = threading.Thread(
            target=self._send, args=(pair,), name="upload", daemon=True
        )
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Wait for the upload that is under way, `timeout_s` seconds at most."""
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
                # The service has collected a file that was uploaded earlier, before a report named it.
                self._stored.clear()
            # The next upload, or the end of the attempt, tries again. If the lease is lost, the lease keeper finds out.
            log.info(
                "the checkpoint of step %d was not uploaded yet: %s", pair.newest.step, error
            )
        else:
            self._last = pair
        self._took_s = time.monotonic() - self._last_at
