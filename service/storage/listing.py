"""The list of studies, in SQL."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from service.storage.ranking import MAY_WIN
from service.storage.refits import PLANNED
from service.storage.set_aside import BLOCKED
from trimtab.contract.studies import StudyState


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One row of the list of studies."""

    study_id: int
    name: str
    state: StudyState
    created_at: datetime
    trials_limit: int
    trials_created: int
    refits: int
    objective: str
    best: float | None
    blocked: bool


def page(connection: Connection, *, before: int | None, size: int) -> list[SummaryRow]:
    """Studies, newest first, beginning below id `before`."""
    rows = connection.execute(
        text(f"""
            SELECT s.study_id, s.name, s.state, s.created_at, s.trials_limit, s.trials_created, {PLANNED} AS refits,
                   s.objective,
                   (SELECT CASE s.direction WHEN 'maximize' THEN max(value) ELSE min(value) END
                    FROM trimtab.trials t
                    WHERE t.study_id = s.study_id AND {MAY_WIN}),
                   {BLOCKED}
            FROM trimtab.studies s WHERE s.study_id < coalesce(CAST(:before AS int), 2147483647)
            ORDER BY s.study_id DESC LIMIT :size"""),
        {"before": before, "size": size},
    ).all()
    return [SummaryRow(*row) for row in rows]


def names(connection: Connection) -> list[str]:
    """Return the names of the newest studies."""
    sql = "SELECT name FROM trimtab.studies ORDER BY study_id DESC LIMIT 1000"
    return list(connection.execute(text(sql)).scalars())
