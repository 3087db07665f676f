"""The bell: rings in every replica when one of them has stored new work (LISTEN/NOTIFY)."""

import contextlib
import select
import threading
from collections.abc import Callable
from typing import Any

import psycopg2
from sqlalchemy.exc import SQLAlchemyError

from service.storage.engine import Database

QUIET_S = 1.0
"""How long one wait lasts before the stop flag is looked at."""


def listen(database: Database, ring: Callable[[], None], stop: threading.Event) -> None:
    """Call `ring` for each notification until `stop` is set; reconnects for ever, ringing once each time."""
    while not stop.is_set():
        # The raw connection's own errors come as psycopg2's: a bell that falls silent with its database must ring again.
        with contextlib.suppress(SQLAlchemyError, psycopg2.Error, OSError):
            _listen(database, ring, stop)
        stop.wait(QUIET_S)


def _listen(database: Database, ring: Callable[[], None], stop: threading.Event) -> None:
    pooled = database.engine.raw_connection()
    pooled.detach()  # it goes on living outside the pool, and is closed by us
    raw: Any = pooled.dbapi_connection
    try:
        raw.autocommit = True
        with raw.cursor() as cursor:
            cursor.execute("LISTEN trimtab")
        ring()
        while not stop.is_set() and not raw.closed:
            if select.select([raw], [], [], QUIET_S)[0]:
                raw.poll()
                if raw.notifies:
                    raw.notifies.clear()
                    ring()
    finally:
        raw.close()
