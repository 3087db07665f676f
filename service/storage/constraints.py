"""How the completed trials of a study keep its constraints, in SQL."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class KeptRow:
    """One constraint of a study.

    Attributes:
        bounds: The constraint, as in the document.
        violated: The number of completed trials that violate it.
        completed: The number of completed trials in all.
        nearest: The measured value that comes nearest to keeping it; None where nothing was measured.
    """

    bounds: dict[str, Any]
    violated: int
    completed: int
    nearest: float | None


def kept(connection: Connection, study_id: int) -> list[KeptRow]:
    """Return the constraints of a study in their order; none where nothing has completed."""
    rows = connection.execute(
        text("""
            SELECT s.constraints -> CAST(v.place AS int) - 1, count(*) FILTER (WHERE v.share > 0), count(*),
                   (array_agg(CAST(t.measured ->> (s.constraints -> CAST(v.place AS int) - 1 ->> 'metric') AS float8)
                              ORDER BY v.share))[1]
            FROM trimtab.studies s JOIN trimtab.trials t USING (study_id),
                 LATERAL (SELECT place, CAST(told AS float8) AS share
                          FROM jsonb_array_elements_text(t.violations) WITH ORDINALITY e (told, place)) v
            WHERE s.study_id = :study_id AND t.kind = 'trial' AND t.state = 'completed'
            GROUP BY v.place, s.constraints ORDER BY v.place"""),
        {"study_id": study_id},
    ).all()
    return [KeptRow(*row) for row in rows]
