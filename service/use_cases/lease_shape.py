"""What the holder of a lease is told with it."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from service.storage import refits
from service.storage.leases import LeaseRow
from trimtab.contract.external import ExternalTask
from trimtab.contract.external_leases import ExternalLease, ExternalLeases
from trimtab.contract.leases import Checkpoint, Lease, Leases, Member
from trimtab.contract.studies import StudyDocument
from trimtab.contract.tasks import Task


def answer(
    rows: Sequence[LeaseRow],
    documents: Sequence[StudyDocument],
    of_models: Sequence[Sequence[Member]],
) -> Leases | ExternalLeases:
    """The leases as their holder is told them: a loop's are all of its external study."""
    told = list(zip(rows, documents, strict=True))
    if told and told[0][1].is_external:
        return ExternalLeases(leases=tuple(_external(row, one) for row, one in told))
    return Leases(leases=tuple(map(shape, rows, documents, of_models)))


def _external(row: LeaseRow, document: StudyDocument) -> ExternalLease:
    return ExternalLease(
        lease_id=row.lease_id,
        study=document.name,
        trial_number=row.number,
        fence=row.fence,
        ttl_s=document.lease_ttl_s,
        seed=_seed(document, row.number),
        task=ExternalTask.model_validate(document.task),
        hyperparameters=document.values(row.hyperparameters, row.number),
        runs_until=row.runs_until,
        resume=_state(row.checkpoint),
        previous=_state(row.previous_checkpoint),
    )


def shape(row: LeaseRow, document: StudyDocument, members: Sequence[Member] = ()) -> Lease:
    """Everything that the lease's holder needs; that of a refit and a final one has members."""
    reached = row.trial_value if row.kind == "final" else None
    return Lease(
        lease_id=row.lease_id,
        kind=row.kind,
        study=document.name,
        trial_number=row.number,
        fence=row.fence,
        ttl_s=document.lease_ttl_s,
        seed=_seed(document, row.number, row.seed_index),
        seed_index=row.seed_index,
        task=Task.model_validate(document.task),
        model=document.model_of(row.hyperparameters),
        teacher=document.teacher,
        hyperparameters=row.hyperparameters,
        recipe=document.recipe(row.hyperparameters, row.number),
        runs_until=row.runs_until,
        costs=document.costs,
        constraints=document.foretold if row.kind == "trial" else (),
        resume=_state(row.checkpoint),
        previous=_state(row.previous_checkpoint),
        devices_per_trial=document.devices_per_trial,
        validation_value=reached,
        validation_accuracy=reached if document.task.metric == "accuracy" else None,
        members=tuple(members),
    )


def members(
    connection: Connection, lease: LeaseRow, document: StudyDocument
) -> Sequence[Member]:
    """The trials that the study's model is made of; for a refit, the one that it repeats."""
    if lease.kind == "trial":
        return ()
    count = 1 if document.finish is None else document.finish.ensemble
    rows = refits.members(connection, lease.study_id, document.task.direction, count)
    return [
        _member(row, document, with_refits=lease.kind == "final")
        for row in rows
        if lease.kind == "final" or row.number == lease.number
    ]


def _member(row: refits.MemberRow, document: StudyDocument, *, with_refits: bool) -> Member:
    # Refits of a trial run beside each other: what one is told of another would be told otherwise a moment later.
    states = [Checkpoint.model_validate(state) for state in row.refits if with_refits]
    return Member(
        trial_number=row.number,
        seed=_seed(document, row.number),
        hyperparameters=row.hyperparameters,
        model=document.model_of(row.hyperparameters),
        recipe=document.recipe(row.hyperparameters, row.number),
        value=row.value,
        validated=_state(row.validated),
        refit=states[0] if states else None,
        further_refits=tuple(states[1:]),
    )


def _state(stored: Mapping[str, Any] | None) -> Checkpoint | None:
    return None if stored is None else Checkpoint.model_validate(stored)


def _seed(document: StudyDocument, number: int, place: int = 0) -> int:
    """A seed of the trial, the same for each attempt and unlike its neighbours'; the first one is its own."""
    further = f"/{place}" if place else ""
    told = f"{document.name}/{document.search.seed}/{number}{further}"
    return zlib.crc32(told.encode()) & 0x7FFFFFFF
