"""The service's own thread: bring the database to our schema, then sweep for ever."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from service.storage import schema
from service.storage.schema import SchemaTooNew
from service.use_cases import expiry
from service.use_cases.context import Context
from trimtab.contract.problems import Problem

RETRY_S = 1.0


@dataclass
class Readiness:
    """Whether requests can be served; `fatal` says why they never will."""

    ready: threading.Event = field(default_factory=threading.Event)
    fatal: str | None = None


def keep(
    context: Context,
    readiness: Readiness,
    stop: threading.Event,
    *,
    every_s: float,
    on_ready: Callable[[], None],
) -> None:
    """Migrate, waiting for the database as long as it takes; then revoke expired leases every `every_s` seconds."""
    log = structlog.get_logger(__name__)
    while not stop.is_set() and not readiness.ready.is_set():
        try:
            schema.migrate(context.database)
            on_ready()
            readiness.ready.set()
        except SchemaTooNew as error:
            readiness.fatal = str(error)
            log.error("schema_too_new", detail=str(error))
            return
        except Exception as error:  # noqa: BLE001 - the service waits for its database, whatever ails it
            log.warning("database_not_ready", error=type(error).__name__)
            stop.wait(RETRY_S)
    while not stop.wait(every_s):
        try:
            if count := expiry.sweep(context):
                log.info("leases_expired", count=count)
        except Problem as error:
            log.warning("sweep_failed", detail=error.detail)
        except Exception:
            log.exception("sweep_failed")
