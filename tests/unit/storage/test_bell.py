"""The bell over connections that break."""

import socket
import threading
from typing import Any

import psycopg2
import pytest

from service.storage import bell


class Connection:
    """A raw connection that speaks once, and then breaks as psycopg2's do."""

    def __init__(self) -> None:
        self.autocommit = False
        self.closed = False
        self.polls = 0
        self.notifies: list[str] = []
        self.listening: list[str] = []
        self._ours, self._theirs = socket.socketpair()
        self._theirs.send(b"x")

    @property
    def dbapi_connection(self) -> "Connection":
        return self

    def detach(self) -> None: ...

    def cursor(self) -> "Connection":
        return self

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, statement: str) -> None:
        self.listening.append(statement)

    def fileno(self) -> int:
        return self._ours.fileno()

    def poll(self) -> None:
        self.polls += 1
        if self.polls == 2:
            raise psycopg2.OperationalError("server closed the connection unexpectedly")
        self.notifies.append("trimtab")

    def close(self) -> None:
        self.closed = True
        self._ours.close()
        self._theirs.close()


class Database:
    """A pool of such connections; after the last one the bell is stopped."""

    def __init__(self, connections: int, stop: threading.Event) -> None:
        self.engine = self
        self.given: list[Connection] = []
        self._left = connections
        self._stop = stop

    def raw_connection(self) -> Connection:
        self._left -= 1
        if self._left == 0:
            self._stop.set()
        self.given.append(Connection())
        return self.given[-1]


def test_a_bell_whose_connection_breaks_takes_another_and_rings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bell, "QUIET_S", 0.01)
    stop = threading.Event()
    database: Any = Database(3, stop)
    rings: list[int] = []
    bell.listen(database, lambda: rings.append(len(database.given)), stop)
    # Each connection rings when it listens, and once more for what it hears before it breaks.
    assert rings == [1, 1, 2, 2, 3]
    assert all(connection.listening == ["LISTEN trimtab"] for connection in database.given)
    assert all(connection.closed for connection in database.given)
