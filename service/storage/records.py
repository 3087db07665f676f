"""What workers found when they began their trials, in SQL."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from service.storage.statements import Statement
from trimtab.contract.records import StudyData, TrialRecord
from trimtab.contract.studies import StudyDocument

# A repeat that comes at the same moment must see the event of the first.
_HOLD = Statement("SELECT FROM trimtab.trials WHERE lease_id = :lease_id FOR UPDATE")

_STORE = Statement("""
WITH t AS (
    UPDATE trimtab.trials t SET record = CAST(:record AS jsonb)
    FROM trimtab.studies s
    WHERE t.lease_id = :lease_id AND t.state = 'running' AND s.study_id = t.study_id
      AND s.data ->> 'data_sha256' = :data_sha256
      AND s.data ->> 'split_sha256' IS NOT DISTINCT FROM CAST(:split_sha256 AS text)
    RETURNING t.study_id, t.trial_id, t.number, t.fence, t.kind, t.record),
event AS (
    INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
    SELECT study_id, trial_id, number, fence, 'final_test_opened', jsonb_build_object(
        'data_sha256', record -> 'data_sha256', 'split_sha256', record -> 'split_sha256',
        'pictures', record -> 'pictures' -> 'test')
    FROM t WHERE kind = 'final' AND NOT EXISTS (
        SELECT FROM trimtab.events e
        WHERE e.study_id = t.study_id AND e.trial_id = t.trial_id AND e.kind = 'final_test_opened' AND e.fence = t.fence))
SELECT 1 FROM t""")


def store(connection: Connection, lease_id: UUID, record: TrialRecord) -> bool:
    """Keep the record in place of an earlier one; of a final lease, note that it opens the test split.

    False: the lease is lost, or the record is not of the study's data.
    """
    values = {
        "lease_id": lease_id,
        "record": record.model_dump_json(),
        "data_sha256": record.data_sha256,
        "split_sha256": record.split_sha256,
    }
    return _STORE.row(connection, first=_HOLD, **values) is not None


def lock_data(connection: Connection, lease_id: UUID, study_id: int) -> StudyData | None:
    """The study's data; whoever reads them as unknown holds the study's row, and may set them."""
    # The trial before its study, as the verbs that touch both do.
    _HOLD.row(connection, lease_id=lease_id)
    data = connection.execute(
        text("SELECT data FROM trimtab.studies WHERE study_id = :study_id FOR NO KEY UPDATE"),
        {"study_id": study_id},
    ).scalar_one()
    return None if data is None else StudyData.model_validate(data)


def set_data(connection: Connection, lease_id: UUID, data: StudyData) -> None:
    """Keep what the first attempt of a study is trained on: its probe has passed."""
    connection.execute(
        text("""
            WITH t AS (SELECT * FROM trimtab.trials WHERE lease_id = :lease_id AND state = 'running'),
            s AS (UPDATE trimtab.studies s SET data = CAST(:data AS jsonb) FROM t WHERE s.study_id = t.study_id)
            INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
            SELECT study_id, trial_id, number, fence, 'probe_passed', jsonb_build_object(
                'data_sha256', CAST(:data_sha256 AS text), 'split_sha256', CAST(:split_sha256 AS text))
            FROM t WHERE kind = 'trial'"""),
        {
            "lease_id": lease_id,
            "data": data.model_dump_json(),
            "data_sha256": data.data_sha256,
            "split_sha256": data.split_sha256,
        },
    )


def of_trial(connection: Connection, trial_id: int) -> TrialRecord | None:
    """The record of the trial's newest attempt that told one."""
    record = connection.execute(
        text("SELECT record FROM trimtab.trials WHERE trial_id = :trial_id AND kind = 'trial'"),
        {"trial_id": trial_id},
    ).scalar_one_or_none()
    return None if record is None else TrialRecord.model_validate(record)


def first_epoch(connection: Connection, study_id: int) -> dict[str, float] | None:
    """What was measured of the first epoch of the study's first trial that has one; None before that."""
    return connection.execute(
        text("""
            SELECT r.metrics FROM trimtab.trials t CROSS JOIN LATERAL (
                SELECT metrics FROM trimtab.reports WHERE trial_id = t.trial_id ORDER BY fence, step LIMIT 1) r
            WHERE t.study_id = :study_id AND t.kind = 'trial' ORDER BY t.number LIMIT 1"""),
        {"study_id": study_id},
    ).scalar_one_or_none()


def document_of(connection: Connection, study_id: int) -> tuple[dict[str, Any], int]:
    """Return a study's stored document and the number of its trials; the caller holds its row."""
    row = connection.execute(
        text("SELECT document, trials_created FROM trimtab.studies WHERE study_id = :study_id"),
        {"study_id": study_id},
    ).one()
    return row.document, row.trials_created


def keep_document(connection: Connection, study_id: int, document: StudyDocument) -> None:
    """Store what has become of a document since its study's data are known."""
    connection.execute(
        text(
            "UPDATE trimtab.studies SET document = CAST(:document AS json) WHERE study_id = :study_id"
        ),
        {"study_id": study_id, "document": document.model_dump_json()},
    )
