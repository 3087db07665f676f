"""How the trials of a study keep its constraints, in SQL."""

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
        untrained: The number of trials that were not trained, since they violate it.
        nearest: The measured value that comes nearest to keeping it; None where nothing was measured.
    """

    bounds: dict[str, Any]
    violated: int
    completed: int
    untrained: int
    nearest: float | None


def kept(connection: Connection, study_id: int) -> list[KeptRow]:
    """Return the constraints of a study in their order; none where nothing was measured as yet."""
    rows = connection.execute(
        text("""
            SELECT s.constraints -> CAST(v.place AS int) - 1,
                   count(*) FILTER (WHERE t.state = 'completed' AND v.share > 0),
                   count(*) FILTER (WHERE t.state = 'completed'),
                   count(*) FILTER (WHERE t.state = 'pruned' AND v.share > 0),
                   (array_agg(CAST(t.measured ->> (s.constraints -> CAST(v.place AS int) - 1 ->> 'metric') AS float8)
                              ORDER BY v.share) FILTER (WHERE t.state = 'completed' OR v.share > 0))[1]
            FROM trimtab.studies s JOIN trimtab.trials t USING (study_id),
                 LATERAL (SELECT place, CAST(told AS float8) AS share
                          FROM jsonb_array_elements_text(t.violations) WITH ORDINALITY e (told, place)) v
            WHERE s.study_id = :study_id AND t.kind = 'trial' AND t.state IN ('completed', 'pruned')
            GROUP BY v.place, s.constraints ORDER BY v.place"""),
        {"study_id": study_id},
    ).all()
    return [KeptRow(*row) for row in rows]
