"""Leases past their time, in SQL."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from service.domain.leasing import Held
from service.storage.leases import IS_SAVED, WALL_TIME_OVER


@dataclass(frozen=True, slots=True)
class Expired:
    """A lease past its time, locked for the sweep's transaction."""

    lease_id: UUID
    study_id: int
    held: Held


def lock_expired(connection: Connection, limit: int = 100) -> list[Expired]:
    """Lock leases past their time, skipping those that another replica works on."""
    rows = connection.execute(
        text(f"""
            SELECT t.lease_id, t.study_id, t.kind, s.state, {WALL_TIME_OVER} AS over, t.crashes, s.max_crashes,
                   t.paused_by_search, {IS_SAVED}, t.stop_asked
            FROM trimtab.trials t JOIN trimtab.studies s USING (study_id)
            WHERE t.state = 'running' AND t.lease_until < trimtab.now()
            ORDER BY t.lease_until LIMIT :limit FOR UPDATE OF t SKIP LOCKED"""),
        {"limit": limit},
    ).all()
    return [Expired(row.lease_id, row.study_id, Held(*row[2:])) for row in rows]
