"""The engine, its connections, and the translation of the database's troubles into problems."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from trimtab.contract.problems import Problem, StorageFull, Unavailable

DISK_FULL = "53100"
RETRY_AFTER_S = 1.0


@dataclass(frozen=True)
class Database:
    """Two pools: `statements` commits each statement, `transaction` commits a block."""

    engine: Engine
    autocommit: Engine

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
        with _translated(), self.autocommit.connect() as connection, _watched(connection):
            yield connection

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """Connect for a verb of several statements; commits at the end, rolls back on any error.

        Raises:
            Unavailable: the database does not answer; nothing was stored.
        """
        with _translated(), self.engine.begin() as connection, _watched(connection):
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


def connect(url: str, *, pool_size: int = 20, skew: str | None = None) -> Database:
    """Make the pool; connects on first use. `skew` moves the database's clock, for tests."""

    def pool(**options: Any) -> Engine:
        made = create_engine(
            normalised(url),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=5,
            connect_args={
                "connect_timeout": 5,
                "application_name": "trimtab",
                # One schema for Optuna's tables, whatever the role is called; no wait without an end; prepared
                # statements find rows by key, so that one plan suits every value.
                "options": "-csearch_path=public -cstatement_timeout=5s -clock_timeout=2s -ctimezone=UTC"
                " -cplan_cache_mode=force_generic_plan",
            },
            **options,
        )
        if skew is not None:
            _set_skew(made, skew)
        return made

    # Two pools: switching one connection to and fro costs more than a statement.
    return Database(pool(), pool(isolation_level="AUTOCOMMIT"))


def _set_skew(engine: Engine, skew: str) -> None:
    def on_connect(raw: Any, _record: Any) -> None:
        with raw.cursor() as cursor:
            cursor.execute("SELECT set_config('trimtab.skew', %s, false)", (skew,))
        raw.commit()

    event.listen(engine, "connect", on_connect)


@contextmanager
def _watched(connection: Connection) -> Generator[None]:
    """Statements that speak to the driver directly raise the driver's errors; SQLAlchemy must learn of a dead link."""
    try:
        yield
    except psycopg2.Error as error:
        raw: Any = None if connection.invalidated else connection.connection.dbapi_connection
        if raw is not None and raw.closed:
            connection.invalidate(error)
        raise


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except (IntegrityError, psycopg2.IntegrityError):
        raise  # a constraint spoke: the verb that ran knows what it means
    except PoolTimeout as error:
        raise Unavailable(
            "Every database connection is in use.", retry_after_s=RETRY_AFTER_S
        ) from error
    except DBAPIError as error:
        if (problem := _problem(error.orig)) is None:
            raise
        raise problem from error
    except psycopg2.Error as error:
        if (problem := _problem(error)) is None:
            raise
        raise problem from error


def _problem(error: BaseException | None) -> Problem | None:
    if getattr(error, "pgcode", None) == DISK_FULL:
        return StorageFull(retry_after_s=30.0)
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return Unavailable("The database does not answer.", retry_after_s=RETRY_AFTER_S)
    return None
