"""The service's own thread: bring the database to our schema, then sweep for ever."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from service.storage import schema
from service.storage.schema import SchemaTooNew
from service.use_cases import expiry, reconciling
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
    """Migrate, waiting for the database as long as it takes; then sweep every `every_s` seconds, or sooner."""
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
            log.warning("database_not_ready", error=type(error).__name__, detail=str(error))
            stop.wait(RETRY_S)
    pause_s = every_s
    while not stop.wait(pause_s):
        try:
            swept = expiry.sweep(context, every_s)
            repaired = reconciling.reconcile(context)
        except Problem as error:
            log.warning("sweep_failed", detail=error.detail)
        except Exception:
            log.exception("sweep_failed")
        else:
            pause_s = swept.pause_s
            counts = {"expired": swept.expired, "extended": swept.extended, "held": swept.held}
            if any(counts.values()):
                log.info("leases_swept", **counts)
            if repaired:
                log.warning("optuna_tables_repaired", count=repaired)
