"""Events in commit order, for live views and the history.

A reader that remembers the highest id misses a lower one that commits later. So a reader sees only rows of
transactions below the snapshot's xmin: those have all ended, and (xid, id) orders them for good.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from service.domain.facts import Changes, Cursor, TrialFacts
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


def changes(connection: Connection, study_id: int, cursor: Cursor | None) -> Changes:
    """The study's trials that changed since the cursor, as they are now; None reads all.

    What transactions above the new cursor did is told too, where it is visible, and will be told again: telling is
    idempotent, and so a reader always sees its own writes.
    """
    rows = connection.execute(
        text(f"""
            SELECT t.number, t.state, t.hyperparameters,
                   coalesce(t.curve, (
                       SELECT jsonb_agg(jsonb_build_array(v.step, v.intermediate_value) ORDER BY v.step)
                       FROM public.trial_intermediate_values v WHERE v.trial_id = t.trial_id), '[]') AS curve,
                   t.value, t.error_kind, CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS floor
            FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())) floor
            LEFT JOIN trimtab.trials t ON t.study_id = :study_id AND t.kind = 'trial'
                AND {"true" if cursor is None else _CHANGED}
            ORDER BY t.number"""),
        {"study_id": study_id} | ({} if cursor is None else {"xid": str(cursor[0])}),
    ).all()
    facts = tuple(_facts(row) for row in rows if row.number is not None)
    return Changes(facts, (rows[0].floor, 0))


_CHANGED = """t.trial_id IN (
    SELECT e.trial_id FROM trimtab.events e WHERE e.study_id = :study_id AND e.xid >= CAST(:xid AS xid8))"""


def _facts(row: Any) -> TrialFacts:
    curve = tuple((step, value) for step, value in row.curve)
    return TrialFacts(
        row.number, row.state, row.hyperparameters, curve, row.value, row.error_kind
    )
