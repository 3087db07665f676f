"""Leases in SQL: each verb is one statement, fenced by `lease_id`, over our tables and Optuna's.

In one statement, `SELECT ... FOR UPDATE` and `UPDATE` of a row do not see each other: so the `UPDATE` feeds every `INSERT`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from service.domain.leasing import AttemptOutcome, Departure, Held
from service.storage.external import IS_PROBE
from service.storage.outcomes import ALONE, FOUND, SHOWN, Leaving, to_leave
from service.storage.refits import TOLD_SEED
from service.storage.statements import Statement, array
from trimtab.contract.leases import Checkpoint, LeaseKind
from trimtab.contract.trials import TrialState

WALL_TIME_OVER = """(
    coalesce(s.active_s + coalesce(extract(epoch FROM trimtab.now() - s.active_since), 0) >= s.wall_time_s, false)
    OR s.limits IS NOT NULL AND trimtab.reached_limit(s.study_id) IS NOT NULL)"""
"""Whether the time of a search is over: its wall time, or another limit that ends it at once."""
HAS_ROOM = """(
    (s.limits IS NULL OR coalesce(trimtab.epochs_left(s.study_id) > 0, true))
    AND (s.parallel IS NULL OR s.parallel > (
        SELECT count(*) FROM trimtab.trials b WHERE b.study_id = s.study_id AND b.kind = 'trial' AND b.state = 'running')))"""
"""Whether a trial that does not run may begin: the budget leaves an epoch for it, and not as many run as may at a time."""
ONE_AT_A_TIME = "(s.parallel IS NOT NULL OR coalesce(s.limits ? 'epochs', false))"
"""Whether claims of a study's trials are decided one at a time: each takes a part of what the one before it has left."""
NO_PROGRESS = """(s.limits IS NOT NULL AND trimtab.no_progress(s.study_id))"""

# Claims of one worker at once: each sees which slot the one before it took.
HOLD_WORKER = Statement(
    "SELECT FROM trimtab.workers WHERE worker_id = :worker_id FOR NO KEY UPDATE"
)

# A worker that is alive, and the lowest slot that it has free; no row when it has none.
FREE_SLOT = """
    SELECT w.worker_id, w.label, n AS slot
    FROM trimtab.workers w CROSS JOIN generate_series(0, w.capacity - 1) n
    WHERE w.worker_id = :worker_id AND w.state = 'alive'
      AND NOT EXISTS (SELECT FROM trimtab.trials h
                      WHERE h.worker_id = w.worker_id AND h.state = 'running' AND h.slot = n)
    ORDER BY n LIMIT 1"""

LEASE_COLUMNS = """
    t.lease_id, t.kind, t.study_id, t.trial_id, t.number, t.fence, t.hyperparameters, t.checkpoint, t.previous_checkpoint,
    (SELECT v.value FROM trimtab.trials v WHERE v.trial_id = t.trial_id AND v.kind = 'trial') AS trial_value,
    t.runs_until,
    (SELECT d.space_edits FROM trimtab.studies d WHERE d.study_id = t.study_id), t.seed_index"""


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A live lease as stored; the use case adds what the study document says."""

    lease_id: UUID
    kind: LeaseKind
    study_id: int
    trial_id: int
    number: int
    fence: int
    hyperparameters: dict[str, Any]
    checkpoint: dict[str, Any] | None
    previous_checkpoint: dict[str, Any] | None
    trial_value: float | None
    runs_until: int | None
    space_edits: int = 0  # how often the study's space had been changed by then
    seed_index: int = 0  # which of its trial's seeds a refit has


_OF_CLAIM = Statement(f"""
SELECT {LEASE_COLUMNS}, a.ordinal
FROM trimtab.attempts a
LEFT JOIN trimtab.trials t ON t.lease_id = a.lease_id AND t.state = 'running'
WHERE a.worker_id = :worker_id AND a.claim_id = :claim_id ORDER BY a.ordinal""")


def of_claim(
    connection: Connection, worker_id: UUID, claim_id: UUID
) -> tuple[int, list[LeaseRow]]:
    """The ordinal of the claim's next lease, and those of its leases so far that still live."""
    rows = _OF_CLAIM.rows(connection, worker_id=worker_id, claim_id=claim_id)
    following = rows[-1][-1] + 1 if rows else 0
    return following, [LeaseRow(*row[:-1]) for row in rows if row[0] is not None]


LEASED = f"""
clock AS (
    UPDATE trimtab.studies s SET active_since = trimtab.now() FROM t
    WHERE s.study_id = t.study_id AND s.state = 'active' AND s.active_since IS NULL),
attempt AS (
    INSERT INTO trimtab.attempts (lease_id, trial_id, kind, seed_index, fence, worker_id, claim_id, ordinal)
    SELECT lease_id, trial_id, kind, seed_index, fence, worker_id, :claim_id, :ordinal FROM t),
optuna AS (
    UPDATE public.trials p
    SET state = 'RUNNING', datetime_start = coalesce(p.datetime_start, trimtab.now() AT TIME ZONE 'UTC')
    FROM t WHERE p.trial_id = t.trial_id AND t.kind = 'trial'),
attributes AS (
    UPDATE public.trial_system_attributes a SET value_json = '"running"'
    FROM t WHERE a.trial_id = t.trial_id AND a.key = 'trimtab:state' AND t.kind = 'trial'),
event AS (
    INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
    SELECT study_id, trial_id, number, fence, CASE kind WHEN 'trial' THEN 'trial_resumed' ELSE kind || '_started' END,
           jsonb_build_object('worker', label) || {TOLD_SEED} FROM t)
SELECT {LEASE_COLUMNS} FROM t"""
"""What follows, in a statement, from the trial `t` that has just got a lease."""

_CLAIM_QUEUED = Statement(f"""
WITH free AS ({FREE_SLOT}),
picked AS (
    SELECT t.trial_id, t.kind, t.seed_index FROM trimtab.trials t JOIN trimtab.studies s USING (study_id)
    WHERE t.study_id = :study_id AND t.state = 'queued' AND t.not_before <= trimtab.now()
      AND (t.kind = 'trial' OR NOT :only_trials)
      AND s.state IN ('active', 'stopping', 'finalising') AND EXISTS (SELECT FROM free)
      AND NOT EXISTS (SELECT FROM trimtab.set_aside a WHERE a.study_id = s.study_id AND a.worker_id = :worker_id)
      AND (t.kind <> 'trial' OR NOT {WALL_TIME_OVER} AND {HAS_ROOM})
    ORDER BY t.not_before, t.seed_index, t.number LIMIT 1 FOR UPDATE OF t SKIP LOCKED),
t AS (
    UPDATE trimtab.trials t
    SET state = 'running', fence = t.fence + 1, lease_id = gen_random_uuid(), worker_id = free.worker_id,
        slot = free.slot, lease_until = trimtab.now() + s.lease_ttl, probe = {IS_PROBE},
        started_at = coalesce(t.started_at, trimtab.now()), curve = NULL
    FROM picked, free, trimtab.studies s
    WHERE t.trial_id = picked.trial_id AND t.kind = picked.kind AND t.seed_index = picked.seed_index AND t.state = 'queued'
      AND s.study_id = t.study_id
    RETURNING t.*, free.label),
{LEASED}""")


def claim_queued(
    connection: Connection,
    study_id: int,
    *,
    worker_id: UUID,
    claim_id: UUID,
    ordinal: int,
    only_trials: bool,
) -> LeaseRow | None:
    """Lease the study's longest waiting queued trial; None when there is none, or the worker has no free slot.

    Args:
        connection: one of `Database`.
        study_id: the study whose trial is wanted.
        worker_id: the worker that gets the lease.
        claim_id: names the request.
        ordinal: the position of this lease in its claim.
        only_trials: leave refits and the evaluation of the study's winner to others.

    Raises:
        IntegrityError: the same worker or claim was served at the same moment; read again.
    """
    row = _CLAIM_QUEUED.row(
        connection,
        first=HOLD_WORKER,
        study_id=study_id,
        worker_id=worker_id,
        claim_id=claim_id,
        ordinal=ordinal,
        only_trials=only_trials,
    )
    return None if row is None else LeaseRow(*row)


@dataclass(frozen=True, slots=True)
class LeaseFacts:
    """A lease by its id: live or long gone; `epochs` and `runs_until` are its trial's, where they are set.

    `epochs_left` are those that the study's budget has for trials that do not run; None: it does not count epochs.
    """

    held: Held
    is_live: bool
    study_id: int
    study_name: str
    trial_id: int
    number: int
    fence: int
    reported: int
    ttl_s: float
    outcome: AttemptOutcome | None
    became: TrialState | None
    outcome_sha256: str | None
    epochs: int | None
    runs_until: int | None
    epochs_left: int | None
    space_edits: int = 0


IS_SAVED = """
    CASE WHEN t.paused_by_search THEN coalesce(
        CAST(t.checkpoint ->> 'step' AS int) >= (
            SELECT max(r.step) FROM trimtab.reports r WHERE r.trial_id = t.trial_id AND r.fence = t.fence), false)
    ELSE false END"""
"""Whether a checkpoint has all that a trial `t` reported, where the search has paused it."""

_READ = Statement(f"""
SELECT a.lease_id, a.kind, s.state, {WALL_TIME_OVER}, t.crashes, s.max_crashes,
       coalesce(t.lease_id = a.lease_id, false), t.study_id, s.name, t.trial_id, t.number, a.fence, t.reported,
       CAST(extract(epoch FROM s.lease_ttl) AS float8), a.outcome, a.became, a.outcome_sha256,
       CAST(t.hyperparameters ->> 'epochs' AS int), t.runs_until,
       CASE WHEN s.limits IS NOT NULL THEN trimtab.epochs_left(s.study_id) END, s.space_edits,
       t.paused_by_search, {IS_SAVED}, t.stop_asked
FROM trimtab.attempts a
JOIN trimtab.trials t ON t.trial_id = a.trial_id AND t.kind = a.kind AND t.seed_index = a.seed_index
JOIN trimtab.studies s ON s.study_id = t.study_id
WHERE a.lease_id = ANY(CAST(:lease_ids AS uuid[]))""")


def read_all(connection: Connection, lease_ids: Sequence[UUID]) -> dict[UUID, LeaseFacts]:
    """Everything that the rules need to answer the leases' holders; an unknown lease is left out."""
    rows = _READ.rows(connection, lease_ids=array(lease_ids))
    return {row[0]: LeaseFacts(Held(*row[1:6], *row[-3:]), *row[6:-3]) for row in rows}


def read(connection: Connection, lease_id: UUID) -> LeaseFacts | None:
    """The same for one lease; None when there never was one."""
    return read_all(connection, [lease_id]).get(lease_id)


_RENEW = Statement("""
WITH t AS (
    UPDATE trimtab.trials t SET lease_until = greatest(t.lease_until, trimtab.now() + s.lease_ttl)
    FROM trimtab.studies s
    WHERE t.lease_id = :lease_id AND t.state = 'running' AND s.study_id = t.study_id
      AND NOT EXISTS (SELECT FROM trimtab.workers q WHERE q.worker_id = t.worker_id AND q.state = 'quarantined')
    RETURNING t.worker_id)
UPDATE trimtab.workers w SET last_seen = trimtab.now() FROM t WHERE w.worker_id = t.worker_id
RETURNING w.state = 'draining'""")


@dataclass(frozen=True, slots=True)
class Renewed:
    """A lease that was extended; `is_draining`: its worker is to give it back and to leave."""

    is_draining: bool


def renew(connection: Connection, lease_id: UUID) -> Renewed | None:
    """Extend the lease by its full time to live. None: the lease is lost, or its holder in quarantine.

    A lease past its time that nobody has taken yet is still good: expiry permits to revoke, it does not revoke.
    """
    row = _RENEW.row(connection, lease_id=lease_id)
    return None if row is None else Renewed(row[0])


def checkpoint(
    connection: Connection, lease_id: UUID, newest: Checkpoint, best: Checkpoint | None
) -> bool:
    """Record where the trial can carry on. False: the lease is lost, or a later step is recorded already."""
    row = connection.execute(
        text(f"""
            WITH t AS (
                UPDATE trimtab.trials
                SET checkpoint = CAST(:newest AS jsonb), checkpoint_fence = fence,
                    previous_checkpoint = CASE
                        WHEN CAST(checkpoint ->> 'step' AS int) < :step THEN checkpoint
                        WHEN CAST(previous_checkpoint ->> 'step' AS int) < :step THEN previous_checkpoint END,
                    best_checkpoint = coalesce(CAST(:best AS jsonb), best_checkpoint)
                WHERE lease_id = :lease_id AND state = 'running' AND kind <> 'final'
                  AND (checkpoint IS NULL OR checkpoint_fence < fence OR CAST(checkpoint ->> 'step' AS int) <= :step)
                RETURNING study_id, trial_id, number, fence, kind, seed_index)
            INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
            SELECT study_id, trial_id, number, fence, CASE kind WHEN 'refit' THEN 'refit_checkpointed' ELSE 'checkpointed' END,
                   jsonb_build_object('step', CAST(:step AS int)) || {TOLD_SEED}
            FROM t RETURNING 1"""),
        {
            "lease_id": lease_id,
            "newest": newest.model_dump_json(),
            "best": None if best is None else best.model_dump_json(),
            "step": newest.step,
        },
    ).one_or_none()
    return row is not None


# The curve must have the report that is just being stored.
HOLD = Statement("""
SELECT FROM trimtab.trials WHERE lease_id = ANY(CAST(:lease_ids AS uuid[])) ORDER BY trial_id FOR UPDATE""")

LEAVE = Statement(f"""
WITH d AS (
    SELECT * FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:states AS text[]), CAST(:outcomes AS text[]),
                         CAST(:hashes AS text[]), CAST(:crashes AS int[]), CAST(:delays AS float8[]),
                         CAST(:values AS float8[]), CAST(:error_kinds AS text[]), CAST(:error_messages AS text[]),
                         CAST(:are_over AS bool[]), CAST(:optuna_states AS text[]), CAST(:events AS text[]),
                         CAST(:validation_outputs AS text[]), CAST(:measured AS text[]),
                         CAST(:reasons AS text[]))
        AS d (lease_id, state, outcome, sha256, crashes, delay_s, value, error_kind, error_message, is_over,
              optuna_state, event, validation_outputs, measured, reason)),
{FOUND}
t AS (
    UPDATE trimtab.trials t
    SET state = d.state, lease_id = NULL, worker_id = NULL, slot = NULL, lease_until = NULL,
        crashes = t.crashes + d.crashes,
        not_before = trimtab.now() + make_interval(secs => d.delay_s),
        value = d.value, measured = found.measured, violations = found.violations,
        second_value = found.second_value, feasible = coalesce(found.feasible, true), error_kind = d.error_kind, error_message = d.error_message,
        paused_by_search = t.paused_by_search AND d.state = 'paused',
        ended_at = CASE WHEN d.is_over THEN trimtab.now() END,
        -- The next attempt is judged anew; an audited trial stays one.
        reason = CASE WHEN d.reason IS NOT NULL THEN CAST(d.reason AS jsonb)
                      WHEN d.state <> 'queued' OR t.reason ->> 'rule' = 'audit' THEN t.reason END,
        curve = CASE t.kind WHEN 'trial' THEN
            (SELECT coalesce(jsonb_agg(jsonb_build_array(v.step, v.intermediate_value) ORDER BY v.step), '[]')
             FROM public.trial_intermediate_values v WHERE v.trial_id = t.trial_id) END
    FROM d LEFT JOIN found USING (lease_id)
    WHERE t.lease_id = d.lease_id AND t.state = 'running' AND coalesce(found.is_whole, true) AND (NOT :only_trials OR t.kind = 'trial')
    RETURNING t.trial_id, t.kind, t.seed_index, t.study_id, t.number, t.state, t.hyperparameters, t.fence, t.value, t.error_kind,
              t.error_message, t.curve, t.reason, t.paused_by_search, t.measured, t.violations, t.second_value,
              d.lease_id AS ended, d.outcome, d.sha256, d.is_over,
              d.optuna_state, d.event, d.validation_outputs),
attempt AS (
    UPDATE trimtab.attempts a
    SET ended_at = trimtab.now(), outcome = t.outcome, became = t.state, outcome_sha256 = t.sha256,
        error_kind = t.error_kind
    FROM t WHERE a.lease_id = t.ended),
optuna AS (
    UPDATE public.trials p
    SET state = CAST(t.optuna_state AS public.trialstate),
        datetime_complete = CASE WHEN t.is_over THEN trimtab.now() AT TIME ZONE 'UTC' END
    FROM t WHERE p.trial_id = t.trial_id AND t.kind = 'trial'),
optuna_value AS (
    -- Optuna gives a pruned trial its last intermediate value, if that is finite.
    INSERT INTO public.trial_values (trial_id, objective, value, value_type)
    SELECT t.trial_id, 0, given.value, CAST('FINITE' AS public.trialvaluetype)
    FROM t, LATERAL (SELECT CASE t.state WHEN 'completed' THEN t.value
                                         WHEN 'pruned' THEN CAST(t.curve -> -1 ->> 1 AS float8) END AS value) given
    WHERE t.kind = 'trial' AND given.value IS NOT NULL AND (t.state = 'completed' OR {ALONE})
    UNION ALL SELECT t.trial_id, 1, t.second_value, 'FINITE' FROM t WHERE t.second_value IS NOT NULL),
attributes AS (
    INSERT INTO public.trial_system_attributes AS a (trial_id, key, value_json)
    -- Once told, an attribute is kept true: a trial that completed after a crash has the error kind null.
    SELECT t.trial_id, pair.key, pair.value::text
    FROM t, LATERAL (VALUES
        ('trimtab:state', to_jsonb(t.state), t.state IN ('queued', 'paused')),
        ('fixed_params', t.hyperparameters, t.state IN ('queued', 'paused')),
        ('constraints', t.violations, t.violations IS NOT NULL),
        ('trimtab:error_kind', coalesce(to_jsonb(t.error_kind), 'null'), t.error_kind IS NOT NULL)
    ) pair (key, value, wanted)
    WHERE t.kind = 'trial' AND (pair.wanted OR EXISTS (
        SELECT FROM public.trial_system_attributes o WHERE o.trial_id = t.trial_id AND o.key = pair.key))
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json),
{SHOWN},
validation AS (
    INSERT INTO trimtab.validation_outputs (trial_id, outputs)
    SELECT t.trial_id, CAST(t.validation_outputs AS json) FROM t
    WHERE t.kind = 'trial' AND t.state = 'completed' AND t.validation_outputs IS NOT NULL),
event AS (
    INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
    SELECT study_id, trial_id, number, fence, t.event, jsonb_strip_nulls(jsonb_build_object(
        'outcome', t.outcome, 'value', t.value, 'error_kind', t.error_kind, 'error_message', t.error_message,
        'seed_index', nullif(t.seed_index, 0),
        'reason', CASE WHEN t.state = 'pruned' OR t.paused_by_search THEN t.reason END)) FROM t)
SELECT ended, CASE WHEN is_over AND EXISTS (
    -- Those who wait for what this trial comes to may go on now.
    SELECT FROM trimtab.trials p WHERE p.study_id = t.study_id AND p.state = 'paused' AND p.paused_by_search)
    OR t.kind = 'trial' AND EXISTS (  -- and those who wait for its place
    SELECT FROM trimtab.studies s WHERE s.study_id = t.study_id AND s.parallel IS NOT NULL)
    THEN pg_notify('trimtab', '') END
FROM t""")


def leave(
    connection: Connection,
    lease_id: UUID,
    departure: Departure,
    kind: LeaseKind,
    *,
    outcome_sha256: str | None = None,
    validation_outputs: str | None = None,
    measured: str | None = None,
    reason: str | None = None,
) -> bool:
    """End the lease as decided: settle, release or expire. False: the lease was gone already."""
    leaving = Leaving(
        lease_id, departure, kind, outcome_sha256, validation_outputs, measured, reason
    )
    row = LEAVE.row(connection, first=HOLD, **to_leave([leaving], only_trials=False))
    return row is not None
