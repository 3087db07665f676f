"""The engine, its connections, and the translation of the database's troubles into problems."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.storage.gate import Gate
from service.storage.watchdog import Watchdog
from trimtab.contract.problems import Problem, StorageFull, Unavailable

DISK_FULL = "53100"
LOCK_NOT_AVAILABLE = "55P03"
AWAY = ("08", "57P", "53300")
"""Codes of a server that takes no more work: connection lost, shutting down, starting up, no connection left."""
RETRY_AFTER_S = 1.0
DEADLINE_S = 8.0
"""How long one verb may wait for the database, longer than any single statement or lock may take."""


class Locked(Unavailable):
    """Someone else holds what this needs, for too long. Try again."""


@dataclass(frozen=True)
class Database:
    """Two pools: `statements` commits each statement, `transaction` commits a block."""

    engine: Engine
    autocommit: Engine
    deadline_s: float = DEADLINE_S
    connect_arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    watchdog: Watchdog = field(default_factory=Watchdog)
    gate: Gate = field(default_factory=Gate)

    def dispose(self) -> None:
        """Close what is pooled."""
        self.engine.dispose()
        self.autocommit.dispose()

    @contextmanager
    def statements(self) -> Generator[Connection]:
        """Connect for verbs that are one statement each.

        Raises:
            Unavailable: the database does not answer. Nothing of the failed statement was stored.
        """
        with self._connected(self.autocommit, self.deadline_s) as connection:
            yield connection

    @contextmanager
    def transaction(self, *, within_s: float | None = None) -> Generator[Connection]:
        """Connect for a verb of several statements; commits at the end, rolls back on any error.

        Raises:
            Unavailable: the database does not answer, or not within `within_s` seconds; nothing was stored.
        """
        within_s = self.deadline_s if within_s is None else within_s
        with self._connected(self.engine, within_s) as connection, connection.begin():
            yield connection

    @contextmanager
    def _connected(self, engine: Engine, within_s: float) -> Generator[Connection]:
        self.gate.enter()
        with translated(self.gate), engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            with self.watchdog.watch(raw, within_s), _watched(connection):
                yield connection


def normalised(url: str) -> URL:
    """Make `postgres://` and `postgresql://` mean psycopg2, the driver that is installed.

    Raises:
        ValueError: the URL is malformed or names another kind of database.
    """
    try:
        parsed = make_url(url)
    except Exception as error:
        raise ValueError("the database URL is malformed") from error
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError(
            f"trimtab keeps its studies in Postgres; {parsed.get_backend_name()!r} is not supported"
        )
    return parsed.set(drivername="postgresql+psycopg2")


def connect(url: str, *, pool_size: int = 31, skew: str | None = None) -> Database:
    """Make the pools, of so many connections together; connects on first use. `skew` moves the database's clock, for tests."""
    for_transactions = max(1, pool_size // 3)
    arguments: dict[str, Any] = {
        "connect_timeout": 5,
        "application_name": "trimtab",
        # One schema for Optuna's tables, whatever the role is called; no wait without an end; prepared
        # statements find rows by key, so that one plan suits every value.
        "options": "-csearch_path=public -cstatement_timeout=5s -clock_timeout=2s -ctimezone=UTC"
        " -cidle_in_transaction_session_timeout=10s -cplan_cache_mode=force_generic_plan",
    }
    if skew is not None:
        arguments["options"] += f" -ctrimtab.skew={skew.replace(' ', '')}"

    def pool(size: int, **options: Any) -> Engine:
        return create_engine(
            normalised(url),
            pool_size=size,
            max_overflow=0,
            pool_timeout=5,
            connect_args=arguments,
            **options,
        )

    # Two pools: switching one connection to and fro costs more than a statement.
    return Database(
        pool(for_transactions),
        pool(pool_size - for_transactions, isolation_level="AUTOCOMMIT"),
        connect_arguments=arguments,
    )


def brief(error: BaseException) -> str:
    """What the database said, in one line: SQLAlchemy tells the whole statement with it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return (str(cause).strip().splitlines() or [type(error).__name__])[0][:500]


@contextmanager
def _watched(connection: Connection) -> Generator[None]:
    """Statements that speak to the driver directly raise the driver's errors; SQLAlchemy must learn of a dead link."""
    try:
        yield
    except psycopg2.Error as error:
        raw: Any = None if connection.invalidated else connection.connection.dbapi_connection
        if raw is not None and raw.closed:
            connection.invalidate(error)
            # Whatever ended this connection has ended those that wait in the pool.
            connection.engine.dispose()
        raise


@contextmanager
def translated(gate: Gate) -> Generator[None]:
    """Tell the database's troubles as problems, and the gate whether it is away."""
    try:
        yield
    except PoolTimeout as error:
        if gate.is_shut:
            gate.shut()
        raise Unavailable(
            "Every database connection is in use.", retry_after_s=RETRY_AFTER_S
        ) from error
    except (DBAPIError, psycopg2.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        (gate.shut if _is_away(cause) else gate.open)()
        # A constraint that spoke is no trouble of the database's: the verb that ran knows what it means.
        if (problem := _problem(cause)) is None:
            raise
        raise problem from error
    except BaseException:
        gate.open()
        raise
    else:
        gate.open()


def _is_away(error: BaseException | None) -> bool:
    if not isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return False
    return error.pgcode is None or error.pgcode.startswith(AWAY)


def _problem(error: BaseException | None) -> Problem | None:
    code = getattr(error, "pgcode", None)
    if code == DISK_FULL:
        return StorageFull(retry_after_s=30.0)
    if code == LOCK_NOT_AVAILABLE:
        return Locked(retry_after_s=RETRY_AFTER_S)
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return Unavailable("The database does not answer.", retry_after_s=RETRY_AFTER_S)
    return None
