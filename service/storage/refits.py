"""Refits in SQL: the best trials trained anew on train and validation, and what the final lease gets of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from service.storage.ranking import BEST_FIRST, MAY_WIN
from trimtab.contract.finish import Refits
from trimtab.contract.metrics import Direction

ENSEMBLE = "coalesce(CAST(s.document #>> '{finish,ensemble}' AS int), 1)"
"""The number of best trials that the model of a study `s` is made of."""
SEEDS = "coalesce(CAST(s.document #>> '{finish,seeds}' AS int), 1)"
"""The number of seeds that each of them is refitted with."""
REFITTED = f"coalesce(CAST(s.document #>> '{{finish,refits}}' AS int), {ENSEMBLE})"
"""The number of them that are refitted, the best ones."""
PLANNED = (
    f"CASE s.document #>> '{{finish,refit}}' WHEN 'true' THEN {REFITTED} * {SEEDS} ELSE 0 END"
)
"""The number of refits that the finish of a study `s` takes."""

ON_CONFLICT_ANEW = """
ON CONFLICT (trial_id, kind, seed_index) DO UPDATE
SET past = false, state = 'queued', not_before = trimtab.now(), value = NULL, crashes = 0, error_kind = NULL,
    error_message = NULL, record = NULL, started_at = NULL, ended_at = NULL, checkpoint = excluded.checkpoint,
    checkpoint_fence = NULL, previous_checkpoint = NULL, best_checkpoint = NULL
WHERE trials.past"""
"""The row of an earlier end is used again, so that its fence goes on rising; what it had found is not."""

TOLD_SEED = "jsonb_strip_nulls(jsonb_build_object('seed_index', nullif(seed_index, 0)))"
"""What an event tells of the seed of a refit: nothing of the first one, which is the trial's own."""


def queue(connection: Connection, study_id: int, direction: Direction) -> None:
    """Queue the refits of the best completed trials, one for each seed; of as many as there are, where fewer completed."""
    connection.execute(
        text(f"""
            WITH finish AS (SELECT {REFITTED} AS refitted, {SEEDS} AS seeds FROM trimtab.studies s WHERE study_id = :study_id),
            best AS (
                SELECT t.*, row_number() OVER (ORDER BY {BEST_FIRST[direction]}) AS rank
                FROM trimtab.trials t WHERE t.study_id = :study_id AND {MAY_WIN}
                ORDER BY rank LIMIT (SELECT refitted FROM finish)),
            refit AS (
                INSERT INTO trimtab.trials (trial_id, kind, seed_index, study_id, number, state, hyperparameters)
                SELECT t.trial_id, 'refit', place, t.study_id, t.number, 'queued', t.hyperparameters
                FROM best t, finish, generate_series(0, seeds - 1) AS place ORDER BY place, rank
                {ON_CONFLICT_ANEW}
                RETURNING study_id, trial_id, number, fence, seed_index)
            INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
            SELECT study_id, trial_id, number, fence, 'refit_queued', {TOLD_SEED} FROM refit"""),
        {"study_id": study_id},
    )


@dataclass(frozen=True, slots=True)
class MemberRow:
    """One of a study's best trials, with the states of it and of its refit."""

    number: int
    hyperparameters: dict[str, Any]
    value: float
    validated: dict[str, Any] | None
    refits: list[dict[str, Any]]
    """Those that were kept, in the order of their seeds."""


def members(
    connection: Connection, study_id: int, direction: Direction, count: int
) -> Sequence[MemberRow]:
    """The study's best completed trials, the winner first, and what came of their refits."""
    rows = connection.execute(
        text(f"""
            SELECT t.number, t.hyperparameters, t.value, coalesce(t.best_checkpoint, t.checkpoint),
                   ARRAY(SELECT coalesce(r.best_checkpoint, r.checkpoint) FROM trimtab.trials r
                         WHERE r.trial_id = t.trial_id AND r.kind = 'refit' AND r.state = 'completed' AND NOT r.past
                           AND coalesce(r.best_checkpoint, r.checkpoint) IS NOT NULL ORDER BY r.seed_index)
            FROM trimtab.trials t
            WHERE t.study_id = :study_id AND {MAY_WIN}
            ORDER BY {BEST_FIRST[direction]} LIMIT :count"""),
        {"study_id": study_id, "count": count},
    )
    return [MemberRow(*row) for row in rows]


def progress(connection: Connection, study_id: int) -> Refits:
    """How far the study's refits are; before they are queued, how many the finish takes."""
    row = connection.execute(
        text(f"""
            SELECT CASE WHEN s.ended_by IS NULL THEN {PLANNED} ELSE CAST(count(r.trial_id) AS int) END AS total,
                   count(*) FILTER (WHERE r.state = 'running') AS running,
                   count(*) FILTER (WHERE r.state = 'completed') AS completed,
                   count(*) FILTER (WHERE r.state IN ('failed', 'cancelled')) AS failed
            FROM trimtab.studies s LEFT JOIN trimtab.trials r ON r.study_id = s.study_id AND r.kind = 'refit'
                AND NOT r.past
            WHERE s.study_id = :study_id GROUP BY s.study_id"""),
        {"study_id": study_id},
    ).one_or_none()
    if row is None:
        return Refits()
    return Refits(
        total=row.total, running=row.running, completed=row.completed, failed=row.failed
    )
