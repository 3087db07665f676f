"""Workers in SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from service.domain.tidying import Ended
from service.storage.refits import TOLD_SEED
from service.storage.statements import Statement
from trimtab.contract.workers import Registration, WorkerState

SILENT_AFTER = "5 minutes"
"""A worker that said nothing for so long is listed as gone; its next claim brings it back."""

_COLUMNS = f"""
    w.worker_id, w.label, w.device, w.memory_bytes, w.capacity, w.devices,
    CASE WHEN w.state IN ('alive', 'draining') AND w.last_seen < trimtab.now() - interval '{SILENT_AFTER}' THEN 'gone'
         ELSE w.state END AS state,
    w.last_seen,
    (SELECT count(*) FROM trimtab.trials t WHERE t.worker_id = w.worker_id AND t.state = 'running') AS running,
    (SELECT s.name FROM trimtab.studies s WHERE s.study_id = w.study_id) AS study"""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker as stored."""

    worker_id: UUID
    label: str
    device: str
    memory_bytes: int | None
    capacity: int
    devices: int
    state: WorkerState
    last_seen: datetime
    running: int
    study: str | None


def insert(
    connection: Connection, registration: Registration, study_id: int | None = None
) -> WorkerRow:
    """Store a new worker process, or a loop of an external study, and give it its id."""
    row = connection.execute(
        text(f"""
            WITH w AS (
                INSERT INTO trimtab.workers (label, device, memory_bytes, capacity, devices, study_id)
                VALUES (:label, :device, :memory_bytes, :capacity, :devices, :study_id) RETURNING *)
            SELECT {_COLUMNS} FROM w"""),
        {**registration.model_dump(), "study_id": study_id},
    ).one()
    return WorkerRow(*row)


@dataclass(frozen=True, slots=True)
class Claimant:
    """What a claim needs to know of its worker; `is_quiet`: its last word is worth noting anew."""

    capacity: int
    running: int
    is_quiet: bool
    is_quarantined: bool
    is_draining: bool


_CLAIMANT = Statement("""
SELECT w.capacity,
       (SELECT count(*) FROM trimtab.trials t WHERE t.worker_id = w.worker_id AND t.state = 'running'),
       w.last_seen < trimtab.now() - interval '10 seconds', w.state = 'quarantined', w.state = 'draining'
FROM trimtab.workers w WHERE w.worker_id = :worker_id""")


def claimant(connection: Connection, worker_id: UUID) -> Claimant | None:
    """Read the worker that asks for work; None when there is no such worker."""
    row = _CLAIMANT.row(connection, worker_id=worker_id)
    return None if row is None else Claimant(*row)


_SEEN = Statement(
    "UPDATE trimtab.workers SET last_seen = trimtab.now() WHERE worker_id = :worker_id RETURNING 1"
)


def seen(connection: Connection, worker_id: UUID) -> None:
    """Note that the worker spoke."""
    _SEEN.rows(connection, worker_id=worker_id)


def drain(connection: Connection, worker_id: UUID) -> WorkerRow | None:
    """Give the worker no more leases, and let it know; None when there is no such worker.

    One in quarantine, which gets nothing already, stays in it.
    """
    # The bell wakes its claim, if it waits: its next look says that it is to leave.
    connection.execute(
        text("""
            UPDATE trimtab.workers SET state = 'draining' WHERE worker_id = :worker_id AND state = 'alive'
            RETURNING pg_notify('trimtab', '')"""),
        {"worker_id": worker_id},
    )
    row = connection.execute(
        text(f"SELECT {_COLUMNS} FROM trimtab.workers w WHERE w.worker_id = :worker_id"),
        {"worker_id": worker_id},
    ).one_or_none()
    return None if row is None else WorkerRow(*row)


def newest(connection: Connection, limit: int = 1000) -> list[WorkerRow]:
    """Workers, the last registered first."""
    rows = connection.execute(
        text(
            f"SELECT {_COLUMNS} FROM trimtab.workers w ORDER BY w.registered_at DESC LIMIT :limit"
        ),
        {"limit": limit},
    ).all()
    return [WorkerRow(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a worker's newest attempts ended, the newest first, and when another worker last succeeded meanwhile."""

    worker_id: UUID
    newest: tuple[Ended, ...]
    others_succeeded_at: datetime | None


def conduct(connection: Connection, lease_id: UUID, count: int) -> Conduct | None:
    """Look at the last `count` attempts of each slot of the worker that held this lease, and whether others got on.

    None when nothing is known of the lease any more.
    """
    rows = connection.execute(
        text("""
            WITH w AS (
                SELECT w.* FROM trimtab.attempts JOIN trimtab.workers w USING (worker_id) WHERE lease_id = :lease_id),
            newest AS (
                SELECT a.* FROM trimtab.attempts a JOIN w USING (worker_id) WHERE a.ended_at IS NOT NULL
                ORDER BY a.ended_at DESC LIMIT :count * (SELECT capacity FROM w))
            SELECT worker_id, lease_id, trial_id,
                   outcome = 'expired' OR outcome = 'failed' AND (became = 'queued' OR error_kind = 'poison'),
                   started_at, ended_at,
                   (SELECT max(o.ended_at) FROM trimtab.attempts o
                    WHERE o.worker_id <> (SELECT worker_id FROM w) AND o.outcome IN ('completed', 'pruned')
                      AND o.ended_at >= (SELECT min(started_at) FROM newest))
            FROM newest ORDER BY ended_at DESC"""),
        {"lease_id": lease_id, "count": count},
    ).all()
    if not rows:
        return None
    worker_id, *_, others_succeeded_at = rows[0]
    return Conduct(worker_id, tuple(Ended(*row[1:6]) for row in rows), others_succeeded_at)


def quarantine(connection: Connection, worker_id: UUID, refunded: Sequence[UUID]) -> bool:
    """Give the worker nothing more, and take back the crashes of these leases, whose trials may be claimed at once.

    False: it was in quarantine already. A trial that has ended meanwhile stays as it is.
    """
    row = connection.execute(
        text(f"""
            WITH w AS (
                UPDATE trimtab.workers SET state = 'quarantined'
                WHERE worker_id = :worker_id AND state <> 'quarantined' RETURNING worker_id, label),
            refunded AS (
                UPDATE trimtab.trials t SET crashes = t.crashes - 1, not_before = trimtab.now()
                FROM w, trimtab.attempts a
                WHERE a.lease_id = ANY(:refunded) AND t.trial_id = a.trial_id AND t.kind = a.kind AND t.seed_index = a.seed_index
                  AND t.state IN ('queued', 'running', 'paused')
                RETURNING t.study_id, t.trial_id, t.kind, t.seed_index, t.number, a.fence, w.label),
            events AS (
                INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
                SELECT study_id, trial_id, number, fence, 'crash_refunded',
                       jsonb_build_object('worker', label, 'lease_kind', kind) || {TOLD_SEED} FROM refunded)
            SELECT 1 FROM w"""),
        {"worker_id": worker_id, "refunded": list(refunded)},
    ).one_or_none()
    return row is not None


def is_quarantined(connection: Connection, lease_id: UUID) -> bool:
    """Whether the worker that was given this lease is in quarantine."""
    return connection.execute(
        text("""
            SELECT EXISTS (SELECT FROM trimtab.attempts JOIN trimtab.workers w USING (worker_id)
                           WHERE lease_id = :lease_id AND w.state = 'quarantined')"""),
        {"lease_id": lease_id},
    ).scalar_one()
