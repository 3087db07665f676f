"""The trials of a study with two objectives, in SQL."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from service.storage.ranking import MAY_WIN


@dataclass(frozen=True, slots=True)
class CompromiseRow:
    """A completed trial that keeps every constraint."""

    number: int
    hyperparameters: dict[str, Any]
    value: float
    second_value: float
    measured: dict[str, float]


def compromises(connection: Connection, study_id: int) -> list[CompromiseRow]:
    """Return the trials that may stand on the front, in the order of their numbers."""
    rows = connection.execute(
        text(f"""
            SELECT t.number, t.hyperparameters, t.value, t.second_value, t.measured FROM trimtab.trials t
            WHERE t.study_id = :study_id AND {MAY_WIN} AND t.second_value IS NOT NULL ORDER BY t.number"""),
        {"study_id": study_id},
    ).all()
    return [CompromiseRow(*row) for row in rows]
