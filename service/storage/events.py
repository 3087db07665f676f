"""Events in commit order, for live views.

A reader that remembers the highest id misses a lower one that commits later. So a reader sees only rows of
transactions below the snapshot's xmin: those have all ended, and (xid, id) orders them for good.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from service.domain.facts import Cursor
from trimtab.contract.events import EventKind


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event as stored; (xid, id) is its cursor."""

    xid: int
    id: int
    at: datetime
    kind: EventKind
    trial_number: int | None
    fence: int | None
    body: dict[str, Any]


def after(
    connection: Connection, study_id: int, cursor: Cursor, limit: int = 500
) -> list[EventRow]:
    """The study's next events behind the cursor, in commit order."""
    rows = connection.execute(
        text("""
            SELECT CAST(CAST(xid AS text) AS bigint), id, at, kind, trial_number, fence, body FROM trimtab.events
            WHERE study_id = :study_id AND (xid, id) > (CAST(:xid AS xid8), :id)
              AND xid < pg_snapshot_xmin(pg_current_snapshot())
            ORDER BY xid, id LIMIT :limit"""),
        {"study_id": study_id, "xid": str(cursor[0]), "id": cursor[1], "limit": limit},
    ).all()
    return [EventRow(*row) for row in rows]


def reopened_after(connection: Connection, study_id: int, cursor: Cursor) -> bool:
    """Whether the study was taken up again behind the cursor."""
    return connection.execute(
        text("""
            SELECT EXISTS (SELECT FROM trimtab.events
                           WHERE study_id = :study_id AND kind = 'study_reopened' AND (xid, id) > (CAST(:xid AS xid8), :id))"""),
        {"study_id": study_id, "xid": str(cursor[0]), "id": cursor[1]},
    ).scalar_one()
