"""What completed trials answered to the validation split, in SQL; the statement that settles a trial stores it."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from trimtab.contract.validation_outputs import TrialOutputs, ValidationOutputs


@dataclass(frozen=True, slots=True)
class Page:
    """Some trials in the order of their numbers, and whether there are more."""

    trials: tuple[TrialOutputs, ...]
    more: bool


def page(
    connection: Connection, study_id: int, *, start: int, most: int, most_bytes: int
) -> Page:
    """Completed trials that told their answers, from number `start` on: one, and more as long as they are small."""
    rows = connection.execute(
        text("""
            SELECT number, value, outputs, found FROM (
                SELECT *, count(*) OVER () AS found, row_number() OVER (ORDER BY number) AS place,
                       sum(octet_length(outputs)) OVER (ORDER BY number) AS bytes
                FROM (SELECT t.number, t.value, CAST(o.outputs AS text) AS outputs
                      FROM trimtab.validation_outputs o JOIN trimtab.trials t USING (trial_id)
                      WHERE t.study_id = :study_id AND t.kind = 'trial' AND t.number >= :start
                      ORDER BY t.number LIMIT :most + 1) read) sized
            WHERE place <= :most AND (place = 1 OR bytes <= :most_bytes) ORDER BY number"""),
        {"study_id": study_id, "start": start, "most": most, "most_bytes": most_bytes},
    ).all()
    told = tuple(
        TrialOutputs(
            trial_number=row.number,
            value=row.value,
            outputs=ValidationOutputs.model_validate_json(row.outputs),
        )
        for row in rows
    )
    return Page(told, more=bool(rows) and len(rows) < rows[0].found)
