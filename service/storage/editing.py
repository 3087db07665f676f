"""What a person changes of a study that has begun, in SQL; the caller holds the study's row."""

import json
from typing import Any

from sqlalchemy import Connection, text

from service.domain.editing import Spent
from trimtab.contract.studies import StudyDocument


def spent(connection: Connection, study_id: int) -> Spent:
    """Read what the study stands at."""
    row = connection.execute(
        text("""
            SELECT state, trials_created,
                   CAST(active_s + coalesce(extract(epoch FROM trimtab.now() - active_since), 0) AS float8), exhausted
            FROM trimtab.studies WHERE study_id = :study_id"""),
        {"study_id": study_id},
    ).one()
    return Spent(*row)


def change(
    connection: Connection, study_id: int, before: StudyDocument, after: StudyDocument
) -> None:
    """Store the changed document, and the limits that claims go by."""
    connection.execute(
        text("""
            WITH study AS (
                UPDATE trimtab.studies
                SET document = CAST(:document AS json), priority = :priority, trials_limit = :trials_limit,
                    wall_time_s = :wall_time_s
                WHERE study_id = :study_id)
            INSERT INTO trimtab.events (study_id, kind, body)
            VALUES (:study_id, 'study_edited', CAST(:body AS jsonb))"""),
        _bound(study_id, before, after),
    )


def reopen(
    connection: Connection, study_id: int, before: StudyDocument, after: StudyDocument
) -> None:
    """Store the changed document of a study that is done, and make it active again.

    Its scores are kept beside those to come. What its end had trained is past, and its row is used again.
    """
    connection.execute(
        text("""
            WITH past AS (
                UPDATE trimtab.trials SET past = true WHERE study_id = :study_id AND kind <> 'trial'),
            was AS (
                SELECT final FROM trimtab.studies WHERE study_id = :study_id),
            study AS (
                UPDATE trimtab.studies
                SET document = CAST(:document AS json), priority = :priority, trials_limit = :trials_limit,
                    wall_time_s = :wall_time_s, state = 'active', ended_by = NULL, problem = NULL, final = NULL,
                    earlier_finals = earlier_finals || coalesce(final, '[]')
                WHERE study_id = :study_id)
            INSERT INTO trimtab.events (study_id, kind, body)
            SELECT :study_id, 'study_reopened',
                   CAST(:body AS jsonb) || jsonb_strip_nulls(jsonb_build_object('final', was.final - 'report')) FROM was"""),
        _bound(study_id, before, after),
    )


def test_openings(connection: Connection, study_id: int) -> int:
    """How often the test split had been opened when the study got more budget last; 0 of one that never did."""
    return connection.execute(
        text("""
            SELECT CAST(count(*) AS int) FROM trimtab.events e
            WHERE e.study_id = :study_id AND e.kind = 'final_test_opened' AND e.id < (
                SELECT max(o.id) FROM trimtab.events o WHERE o.study_id = :study_id AND o.kind = 'study_reopened')"""),
        {"study_id": study_id},
    ).scalar_one()


def _bound(study_id: int, before: StudyDocument, after: StudyDocument) -> dict[str, Any]:
    return {
        "study_id": study_id,
        "document": after.model_dump_json(),
        "priority": after.priority,
        "trials_limit": after.search_budget.trials,
        "wall_time_s": after.search_budget.wall_time_s,
        "body": json.dumps({"before": _told(before), "after": _told(after)}),
    }


def _told(document: StudyDocument) -> dict[str, Any]:
    return {**document.budget.model_dump(), "priority": document.priority}
