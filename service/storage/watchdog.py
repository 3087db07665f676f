"""Ends the wait for a database that accepts connections and never answers.

Neither `statement_timeout` (the server enforces it) nor TCP keepalives and `TCP_USER_TIMEOUT` (the peer's kernel still
acknowledges) end a read from a server that hangs or from a link that swallows: tried, and the calls hung for as long as the
link did. So a thread shuts the socket down, and the driver reads end-of-file.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg2

LOOK_EVERY_S = 0.5


class Watchdog:
    """Watches the connections in use; its thread begins with the first and ends with the process."""

    def __init__(self) -> None:
        self._watched: dict[object, tuple[float, Any]] = {}
        self._lock = threading.Lock()
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, raw: Any, within_s: float) -> Generator[None]:
        """Shut the psycopg2 connection's socket down unless the block ends within so many seconds."""
        key = object()
        with self._lock:
            self._watched[key] = (time.monotonic() + within_s, raw)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()
        if not self._busy.is_set():
            self._busy.set()
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(key, None)

    def _run(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(LOOK_EVERY_S)
            self._look()

    def _look(self) -> None:
        # Under the lock, so that no connection is given to another block meanwhile.
        with self._lock:
            now = time.monotonic()
            overdue = [key for key, (deadline, _) in self._watched.items() if deadline < now]
            for key in overdue:
                _shut(self._watched.pop(key)[1])
            if not self._watched:
                self._busy.clear()


def _shut(raw: Any) -> None:
    with (
        contextlib.suppress(OSError, psycopg2.Error),
        socket.socket(fileno=os.dup(raw.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
