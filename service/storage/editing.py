"""What a person changes of a study that has begun, in SQL; the caller holds the study's row."""

import json
from typing import Any

from sqlalchemy import Connection, text

from service.domain.editing import Spent
from service.domain.space_editing import Begun
from service.storage.leases import NO_PROGRESS
from trimtab.contract.studies import StudyDocument


def spent(connection: Connection, study_id: int) -> Spent:
    """Read what the study stands at."""
    row = connection.execute(
        text("""
            SELECT state, trials_created,
                   CAST(active_s + coalesce(extract(epoch FROM trimtab.now() - active_since), 0) AS float8),
                   exhausted AND trials_created < trials_limit,
                   CASE WHEN limits IS NOT NULL THEN trimtab.reached_limit(study_id) END
            FROM trimtab.studies WHERE study_id = :study_id"""),
        {"study_id": study_id},
    ).one()
    return Spent(*row)


def begun(connection: Connection, study_id: int) -> list[Begun]:
    """Read the values of all trials of a study."""
    rows = connection.execute(
        text("""
            SELECT number, state, hyperparameters FROM trimtab.trials
            WHERE study_id = :study_id AND kind = 'trial' ORDER BY number"""),
        {"study_id": study_id},
    ).all()
    return [Begun(*row) for row in rows]


def change(
    connection: Connection, study_id: int, before: StudyDocument, after: StudyDocument
) -> None:
    """Store the changed document, and the limits that claims go by."""
    connection.execute(
        text("""
            WITH study AS (
                UPDATE trimtab.studies
                SET document = CAST(:document AS json), priority = :priority, parallel = :parallel, trials_limit = :trials_limit,
                    wall_time_s = :wall_time_s, limits = CAST(:limits AS jsonb),
                    exhausted = exhausted AND trials_created < trials_limit AND NOT :has_other_space
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
                SET document = CAST(:document AS json), priority = :priority, parallel = :parallel, trials_limit = :trials_limit,
                    wall_time_s = :wall_time_s, limits = CAST(:limits AS jsonb), exhausted = exhausted AND trials_created < trials_limit, state = 'active', ended_by = NULL, problem = NULL, final = NULL,
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


def reached_limit(connection: Connection, study_id: int) -> str | None:
    """Return the name of a limit, beside trials and wall time, that ends the search as it stands; None: none does."""
    return connection.execute(
        text(f"""
            SELECT CASE WHEN s.limits IS NOT NULL THEN coalesce(
                trimtab.reached_limit(s.study_id), CASE WHEN {NO_PROGRESS} THEN 'no_progress_trials' END) END
            FROM trimtab.studies s WHERE s.study_id = :study_id"""),
        {"study_id": study_id},
    ).scalar_one()


def _bound(study_id: int, before: StudyDocument, after: StudyDocument) -> dict[str, Any]:
    return {
        "study_id": study_id,
        "document": after.model_dump_json(),
        "priority": after.priority,
        "parallel": after.parallel,
        "has_other_space": before.space_edits != after.space_edits,
        "trials_limit": after.search_budget.trials,
        "wall_time_s": after.search_budget.wall_time_s,
        "limits": json.dumps(limits) if (limits := after.search_budget.limits) else None,
        "body": json.dumps(
            {"before": _told(before), "after": _told(after)} | _space(before, after)
        ),
    }


def _space(before: StudyDocument, after: StudyDocument) -> dict[str, Any]:
    if before.space_edits == after.space_edits:
        return {}
    space = {name: one.model_dump(exclude_none=True) for name, one in after.space.items()}
    return {"space": space, "space_edit": after.space_edits[-1].model_dump()}


def _told(document: StudyDocument) -> dict[str, Any]:
    told = {**document.budget.model_dump(exclude_none=True), "priority": document.priority}
    if document.parallel is not None:
        told["parallel"] = document.parallel
    if document.needs is not None:
        told["needs"] = document.needs.model_dump(exclude_defaults=True)
    return told
