"""The service's own threads: one brings the database to our schema, then sweeps for ever; one collects artifacts."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from service.storage import schema
from service.storage.engine import brief
from service.storage.foreign import DatabaseRefused
from service.use_cases import artifacts, demand, expiry, reconciling
from service.use_cases.context import Context
from trimtab.contract.problems import Problem

RETRY_S = 1.0
REFUSALS = 3
"""A database that answers is given up when it refuses our schema this many times in a row: others may be at work in it."""


@dataclass
class Readiness:
    """Whether requests can be served; `fatal` says why they never will."""

    ready: threading.Event = field(default_factory=threading.Event)
    fatal: str | None = None
    leaving: threading.Event = field(default_factory=threading.Event)
    wake: Callable[[], None] = lambda: None
    """Called when it begins to leave: those who wait for work are told to ask elsewhere."""
    give_up: Callable[[], None] = lambda: None
    """Called when the database turns out to be one that it can never serve from, before it has served anything."""

    def leave(self) -> None:
        """Go on serving, but tell everyone who asks that this will end in a moment."""
        self.leaving.set()
        self.wake()

    def end(self, why: str) -> None:
        """Serve nothing any more."""
        self.fatal = why
        self.ready.clear()


def keep(
    context: Context,
    readiness: Readiness,
    stop: threading.Event,
    *,
    every_s: float,
    on_ready: Callable[[], None],
    ring: Callable[[], None],
) -> None:
    """Migrate, waiting for the database as long as it takes; then sweep every `every_s` seconds, or sooner.

    A sweep that finds work rings for those who wait: a trial's back-off ends, or a study's place falls free, without a word.
    Ends when the database is not one for this version, or a newer one has migrated it: this one must not write to it.
    """
    try:
        version = _migrate(context, readiness, stop, on_ready)
        pause_s = every_s
        while not stop.wait(pause_s):
            pause_s = _sweep(context, version, every_s, ring) or pause_s
    except DatabaseRefused as error:
        has_served = readiness.ready.is_set()
        readiness.end(str(error))
        structlog.get_logger(__name__).error("database_refused", detail=str(error))
        if not has_served:
            readiness.give_up()


def _migrate(
    context: Context,
    readiness: Readiness,
    stop: threading.Event,
    on_ready: Callable[[], None],
) -> str:
    """Return the version of the schema, or anything if told to stop before that."""
    refusals = 0
    while not stop.is_set():
        try:
            schema.migrate(context.database)
            version = schema.version(context.database)
        except DatabaseRefused:
            raise
        except Exception as error:
            refusals = 0 if isinstance(error, Problem) else refusals + 1
            if refusals == REFUSALS:
                raise DatabaseRefused(
                    f"The database cannot be brought to trimtab's schema: {brief(error)}"
                ) from error
            structlog.get_logger(__name__).warning(
                "database_not_ready", error=type(error).__name__, detail=brief(error)
            )
            stop.wait(RETRY_S)
        else:
            on_ready()
            readiness.ready.set()
            return version
    return ""


def _sweep(
    context: Context, version: str, every_s: float, ring: Callable[[], None]
) -> float | None:
    """Sweep and reconcile once, and ring where there is work; returns the pause until the next time, None when it failed."""
    log = structlog.get_logger(__name__)
    try:
        schema.refuse_other(context.database, version)
        swept = expiry.sweep(context, every_s)
        repaired = reconciling.reconcile(context)
        if demand.is_any(context):
            ring()
    except DatabaseRefused:
        raise
    except Problem as error:
        log.warning("sweep_failed", detail=error.detail)
        return None
    except Exception:
        log.exception("sweep_failed")
        return None
    counts = {"expired": swept.expired, "extended": swept.extended, "held": swept.held}
    if any(counts.values()):
        log.info("leases_swept", **counts)
    if repaired:
        log.warning("optuna_tables_repaired", count=repaired)
    return swept.pause_s


def collect(context: Context, stop: threading.Event, *, kept_s: float) -> None:
    """Until told to stop, remove artifacts that nothing needs; in a thread of its own, since disks may be slow."""
    log = structlog.get_logger(__name__)
    while not stop.wait(kept_s / artifacts.TURNS_PER_LIFE):
        try:
            count = artifacts.collect(context, kept_s)
        except Problem as error:
            log.warning("collection_failed", detail=error.detail)
        except Exception:
            log.exception("collection_failed")
        else:
            if count:
                log.info("artifacts_collected", count=count)
