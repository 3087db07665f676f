"""Workers that cannot serve a study, in SQL: its data or its weights are not there, or are others."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from service.storage.external import MAY_TAKE
from service.storage.statements import Statement

MOST_TOLD = 20

_LIVE = """
    w.state = 'alive' AND (w.last_seen > trimtab.now() - interval '1 minute' OR EXISTS (
        SELECT FROM trimtab.trials r WHERE r.worker_id = w.worker_id AND r.state = 'running'))"""
"""A worker that waits speaks every few seconds; one that trains is looked after by its lease."""

BLOCKED = f"""(
    s.state IN ('active', 'stopping', 'finalising')
    AND EXISTS (SELECT FROM trimtab.set_aside a WHERE a.study_id = s.study_id)
    AND NOT EXISTS (SELECT FROM trimtab.trials r WHERE r.study_id = s.study_id AND r.state = 'running')
    AND NOT EXISTS (
        SELECT FROM trimtab.workers w WHERE {_LIVE} AND {MAY_TAKE} AND NOT EXISTS (
            SELECT FROM trimtab.set_aside a WHERE a.study_id = s.study_id AND a.worker_id = w.worker_id)))"""
"""Whether a study `s` waits for somebody to put right what its workers lack: nothing is stored that could go stale."""

_ADD = Statement("""
WITH a AS (SELECT * FROM trimtab.attempts WHERE lease_id = :lease_id),
t AS (SELECT t.* FROM trimtab.trials t JOIN a USING (trial_id, kind, seed_index)),
aside AS (
    INSERT INTO trimtab.set_aside AS o (study_id, worker_id, problem)
    SELECT t.study_id, a.worker_id, :problem FROM t, a
    ON CONFLICT (study_id, worker_id) DO UPDATE SET problem = excluded.problem, at = trimtab.now()),
clock AS (
    -- While nobody trains, no time is spent; and what an unpassed probe took is given back.
    UPDATE trimtab.studies s
    SET active_s = active_s + CASE WHEN s.data IS NULL AND NOT s.external THEN 0
                                   ELSE coalesce(extract(epoch FROM trimtab.now() - s.active_since), 0) END,
        active_since = NULL
    FROM t WHERE s.study_id = t.study_id AND NOT EXISTS (
        SELECT FROM trimtab.trials r WHERE r.study_id = s.study_id AND r.state = 'running'))
INSERT INTO trimtab.events (study_id, kind, body)
SELECT t.study_id, 'worker_set_aside', jsonb_strip_nulls(jsonb_build_object(
    'worker', w.label, 'problem', CAST(:problem AS text), 'lease_kind', t.kind, 'trial_number', t.number,
    'seed_index', nullif(t.seed_index, 0)))
FROM t, a JOIN trimtab.workers w USING (worker_id)
RETURNING 1""")


def add(connection: Connection, lease_id: UUID, problem: str) -> None:
    """Give the study's trials to the worker of this lease, which has just ended, no more."""
    _ADD.rows(connection, lease_id=lease_id, problem=problem)


def clear(connection: Connection, study_id: int) -> bool:
    """Let all workers try the study again; false where none was set aside, or the study is paused and has to resume."""
    row = connection.execute(
        text("""
            WITH cleared AS (DELETE FROM trimtab.set_aside WHERE study_id = :study_id RETURNING study_id)
            INSERT INTO trimtab.events (study_id, kind)
            SELECT study_id, 'study_resumed' FROM trimtab.studies s
            WHERE study_id = :study_id AND s.state <> 'paused' AND EXISTS (SELECT FROM cleared)
            RETURNING 1"""),
        {"study_id": study_id},
    ).one_or_none()
    return row is not None


@dataclass(frozen=True, slots=True)
class AsideRow:
    """A worker that was set aside for a study."""

    worker: str
    problem: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a study is blocked, and by which workers, the last one first."""

    blocked: bool
    workers: Sequence[AsideRow]


def standing(connection: Connection, study_id: int) -> Standing:
    """Read who cannot serve the study; a worker that has gone counts only where nobody else is left."""
    rows = connection.execute(
        text(f"""
            SELECT b.blocked, w.label, a.problem, a.at
            FROM trimtab.studies s
            CROSS JOIN LATERAL (SELECT {BLOCKED} AS blocked) b
            JOIN trimtab.set_aside a USING (study_id) JOIN trimtab.workers w USING (worker_id)
            WHERE s.study_id = :study_id AND (b.blocked OR {_LIVE})
            ORDER BY a.at DESC, w.registered_at DESC LIMIT {MOST_TOLD}"""),
        {"study_id": study_id},
    ).all()
    blocked = bool(rows) and rows[0].blocked
    return Standing(blocked, [AsideRow(*row[1:]) for row in rows])
