"""Workers in SQL."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from service.storage.statements import Statement
from trimtab.contract.workers import Registration, WorkerState

SILENT_AFTER = "5 minutes"
"""A worker that said nothing for so long is listed as gone; its next claim brings it back."""

_COLUMNS = f"""
    w.worker_id, w.label, w.device, w.memory_bytes, w.capacity,
    CASE WHEN w.state = 'alive' AND w.last_seen < trimtab.now() - interval '{SILENT_AFTER}' THEN 'gone'
         ELSE w.state END AS state,
    w.last_seen,
    (SELECT count(*) FROM trimtab.trials t WHERE t.worker_id = w.worker_id AND t.state = 'running') AS running"""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker as stored."""

    worker_id: UUID
    label: str
    device: str
    memory_bytes: int | None
    capacity: int
    state: WorkerState
    last_seen: datetime
    running: int


def insert(connection: Connection, registration: Registration) -> WorkerRow:
    """Store a new worker process and give it its id."""
    row = connection.execute(
        text(f"""
            WITH w AS (
                INSERT INTO trimtab.workers (label, device, memory_bytes, capacity)
                VALUES (:label, :device, :memory_bytes, :capacity) RETURNING *)
            SELECT {_COLUMNS} FROM w"""),
        registration.model_dump(),
    ).one()
    return WorkerRow(*row)


@dataclass(frozen=True, slots=True)
class Claimant:
    """What a claim needs to know of its worker; `is_quiet`: its last word is worth noting anew."""

    capacity: int
    running: int
    is_quiet: bool


_CLAIMANT = Statement("""
SELECT w.capacity,
       (SELECT count(*) FROM trimtab.trials t WHERE t.worker_id = w.worker_id AND t.state = 'running'),
       w.last_seen < trimtab.now() - interval '10 seconds'
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


def newest(connection: Connection, limit: int = 1000) -> list[WorkerRow]:
    """Workers, the last registered first."""
    rows = connection.execute(
        text(
            f"SELECT {_COLUMNS} FROM trimtab.workers w ORDER BY w.registered_at DESC LIMIT :limit"
        ),
        {"limit": limit},
    ).all()
    return [WorkerRow(*row) for row in rows]
