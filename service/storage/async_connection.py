"""A connection that the event loop waits for by itself.

Handing a statement to a thread and its rows back costs more CPU than the statement's way to Postgres and back. So the
verbs that workers call all the time have connections of their own, in psycopg2's asynchronous mode
(https://www.psycopg.org/docs/advanced.html#asynchronous-support), on which the event loop watches the socket.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2
from psycopg2 import extensions, extras

from service.storage.engine import Database, translated
from service.storage.statements import Statement, bound

LOCK_TIMEOUT_MS = 100
"""How long a statement waits for another transaction's lock: every batch behind it waits too."""
CONNECT_WITHIN_S = 5.0


class AsyncConnection:
    """One connection, opened by the first statement and again after a loss. One caller at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._line: _Line | None = None

    async def rows(
        self, *statements: Statement, committed: int = 0, **values: Any
    ) -> list[tuple[Any, ...]]:
        """Run statements in one round trip and return all rows of the last one.

        Args:
            statements: one transaction, each seeing what those before it did.
            committed: this many of the first statements are a transaction of their own instead.
            values: the parameters of all of them by name.

        Raises:
            Locked: someone else holds a row for too long; nothing was stored.
            Unavailable: the database does not answer.
            psycopg2.IntegrityError: a constraint spoke; nothing was stored.
        """
        database = self._database
        database.gate.enter()
        with translated(database.gate):
            line = self._line
            if line is None or line.is_lost:
                line = self._line = await _Line.opened(database)
            with database.watchdog.watch(line.raw, database.deadline_s):
                try:
                    return await line.rows(statements, committed, values)
                except BaseException:
                    await line.recover()
                    raise

    @property
    def is_closed(self) -> bool:
        """Whether there is no connection at the moment."""
        return self._line is None or self._line.is_lost

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        if self._line is not None:
            self._line.close()


class _Line:
    """An open connection whose socket the event loop watches."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.is_lost = False
        self._loop = asyncio.get_running_loop()
        self._fd: int = raw.fileno()
        self._stirred: asyncio.Future[None] | None = None
        self._prepared: set[str] = set()
        self._cursor: Any = None
        self._loop.add_reader(self._fd, self._stir)

    @classmethod
    async def opened(cls, database: Database) -> "_Line":
        """Connect as the pools do, but with less patience for locks."""
        dialect, url = database.autocommit.dialect, database.autocommit.url
        words, named = dialect.create_connect_args(url)
        options: dict[str, Any] = {**dict(named), **database.connect_arguments}
        options["options"] += f" -clock_timeout={LOCK_TIMEOUT_MS}"
        line = cls(psycopg2.connect(*words, **options, async_=1))
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await line._done()
        except TimeoutError as error:
            line.close()
            raise psycopg2.OperationalError("no connection in time") from error
        except BaseException:
            line.close()
            raise
        extras.register_uuid(conn_or_curs=line.raw)
        line._cursor = line.raw.cursor()
        return line

    async def rows(
        self, statements: Sequence[Statement], committed: int, values: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        for statement in statements:
            if statement.name not in self._prepared:
                await self._run(statement.prepare, ())
                self._prepared.add(statement.name)
        sql, bindings = bound(statements, values, committed=committed)
        await self._run(sql, bindings)
        return self._cursor.fetchall()

    async def recover(self) -> None:
        """After an error: leave a transaction that failed; give up a connection that is not idle then."""
        with contextlib.suppress(psycopg2.Error):
            if self._status() == extensions.TRANSACTION_STATUS_INERROR:
                await self._run("ROLLBACK", ())
        if self._status() != extensions.TRANSACTION_STATUS_IDLE:
            self.close()

    def close(self) -> None:
        self.is_lost = True
        self._loop.remove_reader(self._fd)
        self.raw.close()

    def _status(self) -> int:
        if self.is_lost or self.raw.closed:
            return extensions.TRANSACTION_STATUS_UNKNOWN
        return self.raw.info.transaction_status

    async def _run(self, sql: str, bindings: Sequence[Any]) -> None:
        self._cursor.execute(sql, bindings)
        await self._done()

    async def _done(self) -> None:
        """Wait until the driver has nothing more to send or to read."""
        while (wants := self.raw.poll()) != extensions.POLL_OK:
            self._stirred = self._loop.create_future()
            if wants == extensions.POLL_WRITE:
                self._loop.add_writer(self._fd, self._stir)
            try:
                await self._stirred
            finally:
                self._stirred = None
                if wants == extensions.POLL_WRITE:
                    self._loop.remove_writer(self._fd)

    def _stir(self) -> None:
        """The socket is ready. When nobody waits for it, the server may have ended the connection."""
        if self._stirred is not None:
            if not self._stirred.done():
                self._stirred.set_result(None)
            return
        try:
            self.raw.poll()
        except psycopg2.Error:
            self.close()
