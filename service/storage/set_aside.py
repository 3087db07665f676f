"""Workers that cannot serve a study, in SQL: its data or its weights are not there, or are others; or they are too small."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from service.storage.external import IS_LARGE_ENOUGH, MAY_TAKE
from service.storage.statements import Statement

MOST_TOLD = 20

_LIVE = """
    w.state = 'alive' AND (w.last_seen > trimtab.now() - interval '1 minute' OR EXISTS (
        SELECT FROM trimtab.trials r WHERE r.worker_id = w.worker_id AND r.state = 'running'))"""
"""A worker that waits speaks every few seconds; one that trains is looked after by its lease."""

BLOCKED = f"""(
    s.state IN ('active', 'stopping', 'finalising')
    AND (EXISTS (SELECT FROM trimtab.set_aside a WHERE a.study_id = s.study_id)
         OR (s.gpu_memory_gb IS NOT NULL OR s.devices_per_trial > 1) AND EXISTS (SELECT FROM trimtab.workers w WHERE {_LIVE} AND {MAY_TAKE}))
    AND NOT EXISTS (SELECT FROM trimtab.trials r WHERE r.study_id = s.study_id AND r.state = 'running')
    AND NOT EXISTS (
        SELECT FROM trimtab.workers w WHERE {_LIVE} AND {MAY_TAKE} AND {IS_LARGE_ENOUGH} AND NOT EXISTS (
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
class Largest:
    """The live worker with the largest GPU; one without any has a device of 0 bytes."""

    worker: str
    gpu_bytes: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a study is blocked, and by which workers, the last one first.

    Attributes:
        blocked: No live worker can serve it, and there are such that cannot.
        workers: Those that were set aside.
        largest: The largest one of all; None where no worker lives.
        gpu_memory_gb: The memory of a GPU that the study needs; None where any device will do.
        devices_per_trial: The number of devices that it needs for each trial.
        most_devices: The most that a live worker offers; 0 where none lives.
    """

    blocked: bool
    workers: Sequence[AsideRow]
    largest: Largest | None = None
    gpu_memory_gb: float | None = None
    devices_per_trial: int = 1
    most_devices: int = 0


def standing(connection: Connection, study_id: int) -> Standing:
    """Read who cannot serve the study; a worker that has gone counts only where nobody else is left."""
    rows = connection.execute(
        text(f"""
            SELECT b.blocked, s.gpu_memory_gb, s.devices_per_trial,
                   coalesce((SELECT max(w.devices) FROM trimtab.workers w WHERE {_LIVE} AND {MAY_TAKE}), 0),
                   l.label, l.gpu_bytes, w.label, a.problem, a.at
            FROM trimtab.studies s
            CROSS JOIN LATERAL (SELECT {BLOCKED} AS blocked) b
            LEFT JOIN LATERAL (
                SELECT w.label, CASE WHEN w.gpu_memory_gb > 0 THEN w.memory_bytes ELSE 0 END AS gpu_bytes
                FROM trimtab.workers w WHERE {_LIVE} AND {MAY_TAKE}
                ORDER BY w.gpu_memory_gb DESC, w.registered_at LIMIT 1) l ON true
            LEFT JOIN (trimtab.set_aside a JOIN trimtab.workers w USING (worker_id))
                ON a.study_id = s.study_id AND (b.blocked OR {_LIVE})
            WHERE s.study_id = :study_id
            ORDER BY a.at DESC, w.registered_at DESC LIMIT {MOST_TOLD}"""),
        {"study_id": study_id},
    ).all()
    if not rows:
        return Standing(False, ())
    blocked, gpu_memory_gb, devices_per_trial, most_devices, label, gpu_bytes = rows[0][:6]
    aside = [AsideRow(*row[6:]) for row in rows if row[6] is not None]
    largest = None if label is None else Largest(label, gpu_bytes)
    return Standing(blocked, aside, largest, gpu_memory_gb, devices_per_trial, most_devices)
