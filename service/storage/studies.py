"""Studies in SQL: create, read, change state, finish, delete."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from service.domain.budget import Spending
from service.storage.asked import asked
from service.storage.leases import NO_PROGRESS, WALL_TIME_OVER
from service.storage.ranking import MAY_WIN
from service.storage.refits import PLANNED, TOLD_SEED
from service.storage.statements import Statement
from trimtab.contract.budget import EndedBy
from trimtab.contract.events import EventKind
from trimtab.contract.metrics import Direction
from trimtab.contract.studies import StudyDocument, StudyState
from trimtab.contract.trials import TrialState


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One study as stored."""

    study_id: int
    name: str
    state: StudyState
    document: dict[str, Any]
    created_at: datetime
    trials_created: int
    final: dict[str, Any] | None
    problem: str | None
    objective: str
    direction: Direction
    ended_by: EndedBy | None
    data: dict[str, Any] | None
    earlier_finals: list[dict[str, Any]]
    constraints: list[dict[str, Any]] | None


_COLUMNS = """
    study_id, name, state, document, created_at, trials_created, final, problem, objective, direction, ended_by, data,
    earlier_finals, constraints"""


def insert(connection: Connection, document: StudyDocument) -> StudyRow:
    """Store a new study in Optuna's tables and ours.

    Raises:
        IntegrityError: a study of this name exists.
    """
    row = connection.execute(
        text(f"""
            WITH optuna AS (
                INSERT INTO public.studies (study_name) VALUES (:name) RETURNING study_id),
            direction AS (
                INSERT INTO public.study_directions (direction, study_id, objective)
                SELECT CAST(upper(d.direction) AS public.studydirection), study_id, d.place - 1
                FROM optuna, unnest(CAST(:directions AS text[])) WITH ORDINALITY d (direction, place)),
            metric AS (
                INSERT INTO public.study_system_attributes (study_id, key, value_json)
                SELECT study_id, 'study:metric_names', :metric_names FROM optuna),
            shown AS (
                INSERT INTO public.study_user_attributes (study_id, key, value_json)
                SELECT study_id, 'fixed', :fixed FROM optuna),
            study AS (
                INSERT INTO trimtab.studies (study_id, name, document, priority, parallel, trials_limit, wall_time_s, limits,
                                             max_crashes, lease_ttl, objective, direction, constraints, second)
                SELECT study_id, :name, CAST(:document AS json), :priority, :parallel, :trials_limit, :wall_time_s,
                       CAST(:limits AS jsonb), :max_crashes, make_interval(secs => :lease_ttl_s), :objective, :direction,
                       CAST(:constraints AS jsonb), CAST(:second AS jsonb)
                FROM optuna
                RETURNING *),
            event AS (
                INSERT INTO trimtab.events (study_id, kind) SELECT study_id, 'study_created' FROM study)
            SELECT {_COLUMNS} FROM study"""),
        {
            "name": document.name,
            # And in its table of user attributes.
            "fixed": json.dumps(dict(document.fixed)),
            "objective": document.task.metric,
            "direction": document.task.direction,
            "document": document.model_dump_json(),
            "priority": document.priority,
            "parallel": document.parallel,
            "trials_limit": document.search_budget.trials,
            "wall_time_s": document.search_budget.wall_time_s,
            "limits": json.dumps(limits) if (limits := document.search_budget.limits) else None,
            "max_crashes": document.max_crashes,
            "lease_ttl_s": document.lease_ttl_s,
            **asked(document),
        },
    ).one()
    return StudyRow(*row)


def by_name(connection: Connection, name: str) -> StudyRow | None:
    """One study, or None."""
    row = connection.execute(
        text(f"SELECT {_COLUMNS} FROM trimtab.studies WHERE name = :name"), {"name": name}
    ).one_or_none()
    return None if row is None else StudyRow(*row)


def name_taken(connection: Connection, name: str) -> bool | None:
    """Whether the study of this name in Optuna's tables is ours; None: there is none."""
    sql = """
        SELECT EXISTS (SELECT FROM trimtab.studies o WHERE o.study_id = p.study_id)
        FROM public.studies p WHERE p.study_name = :name"""
    return connection.execute(text(sql), {"name": name}).scalar_one_or_none()


def document(connection: Connection, study_id: int) -> dict[str, Any] | None:
    """The document of a study, or None if it is no more."""
    return connection.execute(
        text("SELECT document FROM trimtab.studies WHERE study_id = :study_id"),
        {"study_id": study_id},
    ).scalar_one_or_none()


def progress(connection: Connection, study_id: int, usual: int | None) -> dict[str, float]:
    """Trials by state, epochs trained and saved, and seconds of devices.

    `usual`: the epochs of a trial that did not sample its own; None: nobody has said how many it has, and none is told as saved.
    """
    rows = connection.execute(
        text("""
            SELECT t.state, count(*) AS trials, coalesce(sum(r.epochs), 0) AS epochs,
                   coalesce(sum(coalesce(CAST(t.hyperparameters ->> 'epochs' AS int), CAST(:usual AS int)) - r.epochs)
                            FILTER (WHERE t.state = 'pruned'), 0) AS saved
            FROM trimtab.trials t CROSS JOIN LATERAL (
                SELECT CASE WHEN t.curve IS NOT NULL THEN jsonb_array_length(t.curve) ELSE
                    (SELECT count(*) FROM public.trial_intermediate_values v WHERE v.trial_id = t.trial_id) END
                    AS epochs) r
            WHERE t.study_id = :study_id AND t.kind = 'trial' GROUP BY t.state"""),
        {"study_id": study_id, "usual": usual},
    ).all()
    counts: dict[str, float] = {row.state: row.trials for row in rows}
    counts["epochs"] = sum(int(row.epochs) for row in rows)
    counts["epochs_saved"] = sum(int(row.saved) for row in rows)
    counts["device_seconds"] = connection.execute(
        text("SELECT trimtab.device_seconds(:study_id)"), {"study_id": study_id}
    ).scalar_one()
    return counts


@dataclass(frozen=True, slots=True)
class LockedStudy:
    """A study whose row this transaction holds."""

    study_id: int
    spending: Spending
    running: bool
    direction: Direction
    refits: int
    """The number of trials that its finish trains anew."""


def lock(connection: Connection, name: str) -> LockedStudy | None:
    """Lock the study's row for this transaction, then read what was spent."""
    study_id = connection.execute(
        text("SELECT study_id FROM trimtab.studies WHERE name = :name FOR NO KEY UPDATE"),
        {"name": name},
    ).scalar_one_or_none()
    if study_id is None:
        return None
    # A statement of its own: its snapshot is taken after the lock was granted.
    row = connection.execute(
        text(f"""
            SELECT s.state, s.trials_limit, s.trials_created, s.exhausted, {WALL_TIME_OVER} AS wall_time_over,
                   {_UNFINISHED} AS unfinished,
                   EXISTS (SELECT FROM trimtab.trials t WHERE t.study_id = s.study_id AND {MAY_WIN}) AS completed,
                   EXISTS (SELECT FROM trimtab.trials t WHERE t.study_id = s.study_id AND t.kind = 'final'
                           AND NOT t.past AND t.state IN ('failed', 'cancelled')) AS final_failed,
                   {_REFITS_UNFINISHED} AS refits_unfinished,
                   {_FINAL_QUEUED} AS final_queued,
                   CASE WHEN s.limits IS NOT NULL THEN trimtab.reached_limit(s.study_id) END AS reached_limit,
                   {NO_PROGRESS} AS no_progress,
                   EXISTS (SELECT FROM trimtab.trials t WHERE t.study_id = s.study_id
                           AND t.state = 'running') AS running,
                   s.direction, {PLANNED} AS refits, s.external,
                   EXISTS (SELECT FROM trimtab.trials t WHERE t.study_id = s.study_id
                           AND t.state = 'paused' AND t.paused_by_search) AS paused_by_search
            FROM trimtab.studies s WHERE s.study_id = :study_id"""),
        {"study_id": study_id},
    ).one()
    spending = Spending(
        *row[:10],
        paused_by_search=row.paused_by_search,
        reached_limit=row.reached_limit,
        no_progress=row.no_progress,
        is_external=row.external,
    )
    return LockedStudy(study_id, spending, row.running, row.direction, row.refits)


_UNFINISHED = """
    EXISTS (SELECT FROM trimtab.trials t WHERE t.study_id = s.study_id AND t.kind = 'trial'
            AND t.state IN ('queued', 'running', 'paused'))"""
_REFITS_UNFINISHED = """
    EXISTS (SELECT FROM trimtab.trials t WHERE t.study_id = s.study_id AND t.kind = 'refit'
            AND t.state IN ('queued', 'running'))"""
_FINAL_QUEUED = """
    EXISTS (SELECT FROM trimtab.trials t WHERE t.study_id = s.study_id AND t.kind = 'final' AND NOT t.past)"""


MUST_FOLLOW = f"""(
    (s.state IN ('active', 'stopping') AND {WALL_TIME_OVER})
    OR s.state IN ('active', 'stopping', 'cancelled') AND EXISTS (
        SELECT FROM trimtab.trials t WHERE t.study_id = s.study_id
        AND (t.state = 'paused' AND (NOT t.paused_by_search OR s.state <> 'active' OR s.exhausted)
             OR t.state = 'queued' AND s.state = 'cancelled'))
    OR (s.state = 'stopping' OR s.state = 'active'
        AND (s.exhausted OR s.trials_created >= s.trials_limit OR {NO_PROGRESS})) AND NOT {_UNFINISHED}
    OR s.state = 'finalising' AND (
        NOT {_REFITS_UNFINISHED} AND NOT {_FINAL_QUEUED}
        OR EXISTS (
            SELECT FROM trimtab.trials t WHERE t.study_id = s.study_id AND t.kind = 'final'
            AND NOT t.past AND t.state IN ('failed', 'cancelled'))))"""
"""Whether a study looks as if its state, or its final lease, had to follow from what was spent."""

_TO_FOLLOW = Statement(f"""
SELECT s.name FROM trimtab.studies s
WHERE s.name = coalesce(CAST(:name AS text), s.name) AND {MUST_FOLLOW}""")


def to_follow(connection: Connection, name: str | None = None) -> list[str]:
    """Names of the studies (or the one of this name) that look as if their state had to follow; costs no lock."""
    return [row[0] for row in _TO_FOLLOW.rows(connection, name=name)]


HOW_ENDED = Statement(f"""
SELECT a.lease_id, a.outcome_sha256, a.became, s.name, {MUST_FOLLOW}
FROM trimtab.attempts a
JOIN trimtab.trials l ON l.trial_id = a.trial_id AND l.kind = a.kind AND l.seed_index = a.seed_index
JOIN trimtab.studies s ON s.study_id = l.study_id
WHERE a.lease_id = ANY(CAST(:lease_ids AS uuid[]))""")


@dataclass(frozen=True, slots=True)
class Ended:
    """What an attempt's end looks like from outside, a row of `HOW_ENDED`; all None while it lives."""

    lease_id: UUID
    outcome_sha256: str | None
    became: TrialState | None
    study_name: str
    study_must_follow: bool


def set_state(
    connection: Connection,
    study_id: int,
    state: StudyState,
    event: EventKind,
    *,
    problem: str | None = None,
    ended_by: EndedBy | None = None,
) -> None:
    """Store a state that the rules allow, keeping the books of the wall time: it runs from the next lease on."""
    connection.execute(
        text("""
            WITH study AS (
                UPDATE trimtab.studies SET state = :state,
                    problem = CASE WHEN :state IN ('active', 'stopping') THEN NULL ELSE coalesce(:problem, problem) END,
                    active_s = active_s + coalesce(extract(epoch FROM trimtab.now() - active_since), 0),
                    active_since = CASE WHEN :state = 'active' AND EXISTS (
                        SELECT FROM trimtab.trials t WHERE t.study_id = :study_id AND t.state = 'running')
                        THEN trimtab.now() END,
                    ended_by = coalesce(:ended_by, ended_by)
                WHERE study_id = :study_id)
            INSERT INTO trimtab.events (study_id, kind, body)
            VALUES (:study_id, :event, jsonb_strip_nulls(jsonb_build_object(
                'problem', CAST(:problem AS text), 'ended_by', CAST(:ended_by AS text))))"""),
        {"study_id": study_id, "state": state, "event": event}
        | {"problem": problem, "ended_by": ended_by},
    )


_MOVE_UNLEASED = f"""
    WITH t AS (
        UPDATE trimtab.trials
        SET state = CAST(:state AS text), not_before = trimtab.now(), paused_by_search = false,
            error_kind = CASE :state WHEN 'cancelled' THEN 'cancelled' ELSE error_kind END,
            error_message = CASE :state WHEN 'cancelled' THEN NULL ELSE error_message END,
            ended_at = CASE :state WHEN 'cancelled' THEN trimtab.now() END
        WHERE study_id = :study_id AND state = ANY(:from_states) AND (:state = 'cancelled' OR NOT paused_by_search)
          AND trial_id = coalesce(CAST(:trial_id AS int), trial_id)
        RETURNING trial_id, kind, study_id, number, fence, state, error_kind, seed_index),
    optuna AS (
        UPDATE public.trials p
        SET state = CAST(:optuna_state AS public.trialstate),
            datetime_start = CASE :state WHEN 'cancelled'
                THEN coalesce(p.datetime_start, trimtab.now() AT TIME ZONE 'UTC') ELSE p.datetime_start END,
            datetime_complete = CASE :state WHEN 'cancelled' THEN trimtab.now() AT TIME ZONE 'UTC' END
        FROM t WHERE p.trial_id = t.trial_id AND t.kind = 'trial'),
    attributes AS (
        INSERT INTO public.trial_system_attributes AS a (trial_id, key, value_json)
        SELECT t.trial_id, pair.key, pair.value_json
        FROM t, LATERAL (VALUES ('trimtab:state', to_jsonb(t.state)::text),
                                ('trimtab:error_kind', to_jsonb(t.error_kind)::text)) pair (key, value_json)
        WHERE t.kind = 'trial' AND pair.value_json IS NOT NULL
        ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json)
    INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
    SELECT study_id, trial_id, number, fence, CASE kind WHEN 'trial' THEN :event ELSE kind || '_settled' END, {TOLD_SEED}
    FROM t"""


def cancel_unleased(connection: Connection, study_id: int, trial_id: int | None = None) -> None:
    """Cancel the study's queued and paused trials, or one of them; those that run are told by their next verdict."""
    _move_unleased(
        connection,
        study_id,
        ["queued", "paused"],
        "cancelled",
        "FAIL",
        "trial_cancelled",
        trial_id,
    )


def queue_paused(connection: Connection, study_id: int) -> None:
    """Queue the study's trials that a person paused; those that the search paused wait for it."""
    _move_unleased(connection, study_id, ["paused"], "queued", "WAITING", "trial_queued")


def _move_unleased(
    connection: Connection,
    study_id: int,
    from_states: list[str],
    state: str,
    optuna_state: str,
    event: EventKind,
    trial_id: int | None = None,
) -> None:
    connection.execute(
        text(_MOVE_UNLEASED),
        {
            "study_id": study_id,
            "trial_id": trial_id,
            "from_states": from_states,
            "state": state,
            "optuna_state": optuna_state,
            "event": event,
        },
    )


def exhaust(connection: Connection, study_id: int, at_number: int) -> None:
    """Note that the sampler has nothing to propose at this trial number or beyond."""
    connection.execute(
        text("""
            UPDATE trimtab.studies SET exhausted = true
            WHERE study_id = :study_id AND trials_created = :at_number"""),
        {"study_id": study_id, "at_number": at_number},
    )


_DELETE = (
    "DELETE FROM trimtab.events WHERE study_id = :study_id",
    "DELETE FROM trimtab.reports USING trimtab.trials t WHERE reports.trial_id = t.trial_id AND t.study_id = :study_id",
    """DELETE FROM trimtab.validation_outputs o USING trimtab.trials t
       WHERE o.trial_id = t.trial_id AND t.study_id = :study_id""",
    "DELETE FROM trimtab.attempts USING trimtab.trials t WHERE attempts.trial_id = t.trial_id AND t.study_id = :study_id",
    "DELETE FROM trimtab.set_aside WHERE study_id = :study_id",
    # A trial that a claim has just taken stays, and then the foreign key refuses to let its study go.
    "DELETE FROM trimtab.trials WHERE study_id = :study_id AND state <> 'running'",
    "DELETE FROM trimtab.studies WHERE study_id = :study_id",
    *(
        f"DELETE FROM public.{table} USING public.trials t WHERE {table}.trial_id = t.trial_id AND t.study_id = :study_id"
        for table in (
            "trial_params",
            "trial_values",
            "trial_intermediate_values",
            "trial_user_attributes",
            "trial_system_attributes",
            "trial_heartbeats",
        )
    ),
    "DELETE FROM public.trials WHERE study_id = :study_id",
    "DELETE FROM public.study_directions WHERE study_id = :study_id",
    "DELETE FROM public.study_user_attributes WHERE study_id = :study_id",
    "DELETE FROM public.study_system_attributes WHERE study_id = :study_id",
    "DELETE FROM public.studies WHERE study_id = :study_id",
)


def delete(connection: Connection, study_id: int) -> None:
    """Delete the study with all that belongs to it; the caller holds its row and has seen that nothing runs.

    Raises:
        IntegrityError: a trial of it has begun to run since then; nothing was deleted.
    """
    for statement in _DELETE:
        connection.execute(text(statement), {"study_id": study_id})
