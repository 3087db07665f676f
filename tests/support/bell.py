"""The bell that wakes waiting workers, as a listener hears it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from tests.support.protocol import Service


@contextmanager
def listening(service: Service) -> Generator[Callable[[], int]]:
    """How often the bell has rung since it was last asked."""
    pooled = service.context.database.engine.raw_connection()
    raw: Any = pooled.dbapi_connection
    raw.autocommit = True
    with raw.cursor() as cursor:
        cursor.execute("LISTEN trimtab")

        def rings() -> int:
            # What was committed before this statement has arrived with its answer.
            cursor.execute("SELECT 1")
            count = len(raw.notifies)
            raw.notifies.clear()
            return count

        yield rings
    pooled.invalidate()
    pooled.close()
