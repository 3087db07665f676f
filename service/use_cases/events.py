"""Events: a study's story, in commit order."""

from dataclasses import dataclass

from service.domain.facts import Cursor
from service.storage import events
from service.use_cases.context import Context
from trimtab.contract.events import Event

LAST = frozenset({"study_done", "study_cancelled"})


@dataclass(frozen=True, slots=True)
class Batch:
    """The next events with their cursors; `is_last` when the story is told."""

    events: tuple[tuple[Cursor, Event], ...]
    is_last: bool


def after(context: Context, study_id: int, cursor: Cursor) -> Batch:
    """The study's events behind the cursor."""
    with context.database.statements() as connection:
        rows = events.after(connection, study_id, cursor)
        # The story of a study that got more budget goes on behind an end.
        ended = [(row.xid, row.id) for row in rows if row.kind in LAST]
        is_last = bool(ended) and not events.reopened_after(connection, study_id, ended[-1])
    return Batch(tuple(((row.xid, row.id), _shape(row)) for row in rows), is_last)


def _shape(row: events.EventRow) -> Event:
    return Event(
        cursor=f"{row.xid}-{row.id}",
        at=row.at,
        kind=row.kind,
        trial_number=row.trial_number,
        fence=row.fence,
        body=row.body,
    )
