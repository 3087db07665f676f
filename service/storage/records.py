"""What workers found when they began their trials, in SQL."""

from uuid import UUID

from sqlalchemy import Connection, text

from service.storage.statements import Statement
from trimtab.contract.records import TrialRecord

# A repeat that comes at the same moment must see the event of the first.
_HOLD = Statement("SELECT FROM trimtab.trials WHERE lease_id = :lease_id FOR UPDATE")

_STORE = Statement("""
WITH t AS (
    UPDATE trimtab.trials SET record = CAST(:record AS jsonb)
    WHERE lease_id = :lease_id AND state = 'running'
    RETURNING study_id, trial_id, number, fence, kind, record),
event AS (
    INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
    SELECT study_id, trial_id, number, fence, 'final_test_opened', jsonb_build_object(
        'data_sha256', record -> 'data_sha256', 'split_sha256', record -> 'split_sha256',
        'pictures', record -> 'pictures' -> 'test')
    FROM t WHERE kind = 'final' AND NOT EXISTS (
        SELECT FROM trimtab.events e
        WHERE e.study_id = t.study_id AND e.kind = 'final_test_opened' AND e.fence = t.fence))
SELECT 1 FROM t""")


def store(connection: Connection, lease_id: UUID, record: TrialRecord) -> bool:
    """Keep the record in place of an earlier one; of a final lease, note that it opens the test split.

    False: the lease is lost.
    """
    values = {"lease_id": lease_id, "record": record.model_dump_json()}
    return _STORE.row(connection, first=_HOLD, **values) is not None


def of_trial(connection: Connection, trial_id: int) -> TrialRecord | None:
    """The record of the trial's newest attempt that told one."""
    record = connection.execute(
        text("SELECT record FROM trimtab.trials WHERE trial_id = :trial_id AND kind = 'trial'"),
        {"trial_id": trial_id},
    ).scalar_one_or_none()
    return None if record is None else TrialRecord.model_validate(record)
