"""Outcomes wait on disk until the service has acknowledged them, through restarts of worker and service.

A trial may have trained for hours. If its outcome existed only in memory, an outage that outlasts the worker would cost
all of it. So an outcome is written to disk before it is sent, and the file is removed only after the service's answer.
"""

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
from trimtab.contract.records import TrialRecord
from worker import atomic_files, checkpoints
from worker.agent import kept_copies
from worker.pipe_messages import StoredFile

log = logging.getLogger(__name__)

REPORTS_AT_ONCE = 1000
"""The most reports that the service accepts in one request."""
PASSING = (problems.Unavailable, problems.Unauthorized, problems.Forbidden)
"""Problems that say nothing about the delivery itself: the service is away, or its operator changed the token."""


class ServiceCalls(Protocol):
    """What a delivery needs of the client."""

    def record(self, lease_id: UUID, record: TrialRecord, /) -> None:
        """Store what was found when the attempt began."""
        ...

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
        """Give the trial back to the queue."""
        ...

    def settle(self, lease_id: UUID, outcome: Outcome, /) -> object:
        """Store how the attempt ended."""
        ...


class Delivery(Message):
    """All that one attempt still has to tell the service, in the order in which it is sent.

    The service answers a repeated step as it answered the first, so that a delivery can be sent again from the start.
    """

    lease_id: UUID
    name: str
    """Study and trial number, for the log."""
    record: TrialRecord | None = None
    """What was found when the attempt began, if the service does not know it yet."""
    reports: tuple[Report, ...] = ()
    files: tuple[StoredFile, ...] = ()
    checkpoint: CheckpointReport | None = None
    ending: Outcome | Release
    folder: Path
    """The folder with the attempt's checkpoints, which are not needed once this is delivered."""


def deliver(delivery: Delivery, client: ServiceCalls) -> None:
    """Send a delivery once, from its first step to its last.

    Raises:
        problems.Problem: a step failed; after one of `PASSING`, sending it again later may succeed.
    """
    if delivery.record is not None:
        _introduce(delivery, delivery.record, client)
    # The order matters: reports and files first, since the service refuses both once the lease is settled, and a
    # checkpoint is recorded only after its files are stored.
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
    """Remove the attempt's files that no later attempt can resume from."""
    match delivery.ending:
        case Release() | Failed(retryable=True):
            checkpoints.prune(delivery.folder, newest=1)
            kept_copies.put_aside(delivery.folder)
        case _:
            checkpoints.discard_trial(delivery.folder)


class Spool:
    """The deliveries to one service that are not acknowledged, oldest first.

    Threads may share a spool if each of them delivers only what it has added itself.

    Args:
        folder: the folder for the deliveries. Workers of one machine may share it: a delivery that two of them send at
            the same time has the same effect as one.
        server: the service's address; deliveries to other services are not touched.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self._folder = folder / hashlib.sha256(server.encode()).hexdigest()[:16]
        self._unwritten: dict[UUID, Delivery] = {}

    def add(self, delivery: Delivery) -> None:
        """Keep a delivery until it is acknowledged; in memory only if it cannot be written to disk."""
        name = f"{time.time_ns():020d}-{delivery.lease_id.hex}.json"
        try:
            atomic_files.write(self._folder / name, delivery.model_dump_json().encode())
        except OSError as error:
            log.warning(
                "%s: the outcome could not be written to disk; it is lost if this worker ends before it is delivered: %s",
                delivery.name,
                error,
            )
            self._unwritten[delivery.lease_id] = delivery

    def empty(self, client: ServiceCalls, *, only: UUID | None = None) -> None:
        """Deliver all that waits. A delivery that the service refuses for good is dropped with a warning.

        Args:
            client: the client of the service.
            only: the lease to deliver for; None delivers for all leases.

        Raises:
            problems.Problem: the service cannot be reached or refuses the token (one of `PASSING`); what is not
                delivered still waits.
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
    message="The exported model was lost or changed on this worker's disk before it was uploaded.",
    retryable=True,
)


def _store(file: StoredFile, client: ServiceCalls) -> bool:
    try:
        client.upload(file.path, file.sha256)
    except (OSError, problems.Sha256Mismatch) as error:
        log.warning("%s could not be uploaded, going on without it: %s", file.path, error)
        return False
    return True


def _introduce(delivery: Delivery, record: TrialRecord, client: ServiceCalls) -> None:
    try:
        client.record(delivery.lease_id, record)
    except problems.Invalid as problem:
        log.warning("%s: the service refused the trial's record: %s", delivery.name, problem)


def _catch_up(delivery: Delivery, reports: Reports, client: ServiceCalls) -> None:
    try:
        client.report(delivery.lease_id, reports)
    except (problems.StepConflict, problems.Invalid) as problem:
        log.warning(
            "%s: the service refused %d reports, they are dropped: %s",
            delivery.name,
            len(reports.reports),
            problem,
        )


def _record(delivery: Delivery, report: CheckpointReport, client: ServiceCalls) -> None:
    try:
        client.checkpoint(delivery.lease_id, report)
    except (
        problems.CheckpointGoesBack,
        problems.ArtifactNotFound,
        problems.Invalid,
    ) as problem:
        log.warning("%s: the service did not record the checkpoint: %s", delivery.name, problem)


def _let_pass_or_drop(delivery: Delivery, problem: problems.Problem) -> None:
    if problems.row_of(type(problem)).status >= 500:
        raise problems.Unavailable(problem.detail) from problem
    log.warning(
        "%s: the service does not take the outcome, or has it already: %s",
        delivery.name,
        problem,
    )


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
        log.warning("%s is not a valid delivery and is removed: %s", path, error)
        return None
