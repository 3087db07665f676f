"""What the service must still hear waits on disk until it has acknowledged it, through restarts of both."""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from uuid import UUID

from pydantic import ValidationError

from trimtab.contract import problems
from trimtab.contract.leases import (
    CheckpointReport,
    Completed,
    Failed,
    Outcome,
    Release,
    Report,
    Reports,
)
from trimtab.contract.message import Message
from worker import atomic_files, checkpoints
from worker.pipe_messages import StoredFile

log = logging.getLogger(__name__)

REPORTS_AT_ONCE = 1000
"""More points in one request are refused."""
PASSING = (problems.Unavailable, problems.Unauthorized, problems.Forbidden)
"""Refusals that say nothing of the delivery itself: the service is away, or its operator changed the token."""


class ServiceCalls(Protocol):
    """What a delivery needs of the client."""

    def report(self, lease_id: UUID, reports: Reports, /) -> object:
        """Store intermediate values."""
        ...

    def upload(self, path: Path, sha256: str, /) -> None:
        """Store a file's bytes."""
        ...

    def checkpoint(self, lease_id: UUID, report: CheckpointReport, /) -> None:
        """Record a training state."""
        ...

    def release(self, lease_id: UUID, release: Release, /) -> None:
        """Give the trial back."""
        ...

    def settle(self, lease_id: UUID, outcome: Outcome, /) -> object:
        """Say how the attempt ended."""
        ...


class Delivery(Message):
    """The last words of one attempt, in the order in which they are sent; every step may be repeated."""

    lease_id: UUID
    name: str
    """What to call it in the log: study and trial number."""
    reports: tuple[Report, ...] = ()
    files: tuple[StoredFile, ...] = ()
    checkpoint: CheckpointReport | None = None
    ending: Outcome | Release
    folder: Path
    """The attempt's checkpoints, which may go once this is delivered."""


def deliver(delivery: Delivery, client: ServiceCalls) -> None:
    """Send all of it once.

    Raises:
        problems.Problem: what stood in the way; those of `PASSING` may pass.
    """
    for start in range(0, len(delivery.reports), REPORTS_AT_ONCE):
        batch = delivery.reports[start : start + REPORTS_AT_ONCE]
        _catch_up(delivery, Reports(reports=batch), client)
    stored = [_store(file, client) for file in delivery.files]
    if delivery.checkpoint is not None and all(stored):
        _record(delivery, delivery.checkpoint, client)
    match delivery.ending:
        case Release() as release:
            client.release(delivery.lease_id, release)
        case Completed(model_sha256=str()) if not all(stored):
            client.settle(delivery.lease_id, _MODEL_LOST)
        case outcome:
            client.settle(delivery.lease_id, outcome)


def tidy(delivery: Delivery) -> None:
    """Remove the attempt's files as far as nobody will carry on from them."""
    match delivery.ending:
        case Release() | Failed(retryable=True):
            checkpoints.prune(delivery.folder, newest=1)
        case _:
            checkpoints.discard_trial(delivery.folder)


class Spool:
    """The deliveries to one service that are not acknowledged, oldest first.

    Threads may share it, as long as each delivers what it has added itself and nobody else empties it meanwhile.

    Args:
        folder: where they are kept; workers of one machine may share it, since every delivery may be repeated.
        server: the service's address; deliveries to another one are left alone.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self._folder = folder / hashlib.sha256(server.encode()).hexdigest()[:16]
        self._unwritten: dict[UUID, Delivery] = {}

    def add(self, delivery: Delivery) -> None:
        """Keep a delivery until it is acknowledged; in memory alone if the disk does not take it."""
        name = f"{time.time_ns():020d}-{delivery.lease_id.hex}.json"
        try:
            atomic_files.write(self._folder / name, delivery.model_dump_json().encode())
        except OSError as error:
            log.warning("%s: its outcome is kept in memory alone: %s", delivery.name, error)
            self._unwritten[delivery.lease_id] = delivery

    def empty(self, client: ServiceCalls, *, only: UUID | None = None) -> None:
        """Deliver all that waits. What the service refuses for good is dropped, and the log says so.

        Args:
            client: the service.
            only: the lease whose last words are delivered now, and no others.

        Raises:
            problems.Problem: one of `PASSING`; what is not delivered still waits.
        """
        for path in self._files("*" if only is None else f"*-{only.hex}"):
            self._attend(_read(path), client, lambda path=path: path.unlink(missing_ok=True))
        for lease_id, delivery in tuple(self._unwritten.items()):
            if only in (None, lease_id):
                self._attend(delivery, client, lambda key=lease_id: self._unwritten.pop(key))

    def _attend(
        self, delivery: Delivery | None, client: ServiceCalls, forget: Callable[[], object]
    ) -> None:
        if delivery is not None:
            try:
                deliver(delivery, client)
            except PASSING:
                raise
            except problems.Problem as problem:
                _let_pass_or_drop(delivery, problem)
            else:
                log.info("%s: %s", delivery.name, _in_words(delivery))
            tidy(delivery)
        forget()

    def _files(self, name: str) -> list[Path]:
        return sorted(self._folder.glob(f"{name}.json"))


_MODEL_LOST = Failed(
    error="infrastructure",
    message="The exported model was lost on this worker before it was uploaded.",
    retryable=True,
)


def _store(file: StoredFile, client: ServiceCalls) -> bool:
    try:
        client.upload(file.path, file.sha256)
    except (OSError, problems.Sha256Mismatch) as error:
        log.warning("%s could not be uploaded: %s", file.path, error)
        return False
    return True


def _catch_up(delivery: Delivery, reports: Reports, client: ServiceCalls) -> None:
    try:
        client.report(delivery.lease_id, reports)
    except (problems.StepConflict, problems.Invalid) as problem:
        log.warning(
            "%s: %d reports were refused: %s", delivery.name, len(reports.reports), problem
        )


def _record(delivery: Delivery, report: CheckpointReport, client: ServiceCalls) -> None:
    try:
        client.checkpoint(delivery.lease_id, report)
    except (
        problems.CheckpointGoesBack,
        problems.ArtifactNotFound,
        problems.Invalid,
    ) as problem:
        log.warning("%s: its checkpoint was not recorded: %s", delivery.name, problem)


def _let_pass_or_drop(delivery: Delivery, problem: problems.Problem) -> None:
    if problems.row_of(type(problem)).status >= 500:
        raise problems.Unavailable(problem.detail) from problem
    log.warning("%s: the service does not take its outcome: %s", delivery.name, problem)


def _in_words(delivery: Delivery) -> str:
    match delivery.ending:
        case Release(reason=reason):
            return f"released ({reason})"
        case Completed(value=value):
            return f"completed with {value:.4f}"
        case Failed(error=error, message=message):
            return f"failed ({error}): {message.strip().splitlines()[0] if message else ''}"
        case _:
            return "pruned"


def _read(path: Path) -> Delivery | None:
    try:
        return Delivery.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        log.warning("%s is no delivery and is removed: %s", path, error)
        return None
