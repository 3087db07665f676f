"""While the database is away, one caller at a time tries it and the others are told at once.

Without this, every request of a thousand workers would wait for a connection of its own to time out.
"""

import threading
import time
from collections.abc import Callable

from trimtab.contract.problems import Unavailable

SHUT_FOR_S = 0.25
TRY_LASTS_S = 15.0
"""A try that has told nothing for so long was lost with its thread."""


class Gate:
    """Open, until someone finds the database away; open again as soon as a try gets through."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._shut_until: float | None = None

    @property
    def is_shut(self) -> bool:
        """Whether the database was away when last tried."""
        return self._shut_until is not None

    def enter(self) -> None:
        """Go ahead, as one of many while it is open, as the one that tries while it is shut.

        Raises:
            Unavailable: it is shut.
        """
        if not self.is_shut:
            return
        with self._lock:
            now, until = self._now(), self._shut_until
            if until is None:
                return
            if now < until:
                raise Unavailable("The database does not answer.", retry_after_s=1.0)
            self._shut_until = now + TRY_LASTS_S

    def shut(self) -> None:
        """Note that the database was away."""
        with self._lock:
            self._shut_until = self._now() + SHUT_FOR_S

    def open(self) -> None:
        """Note that it answered."""
        if self.is_shut:
            with self._lock:
                self._shut_until = None
