"""Trials that the search has paused, in SQL: taken up again, one by one, and ended once the search is over."""

from uuid import UUID

from sqlalchemy import Connection, text

from service.storage.external import IS_PROBE
from service.storage.leases import (
    FREE_SLOT,
    HAS_ROOM,
    HOLD_WORKER,
    LEASED,
    NO_PROGRESS,
    WALL_TIME_OVER,
    LeaseRow,
)
from service.storage.statements import Statement
from trimtab.contract.reasons import Reason

MAY_TAKE_UP = f"""(
    s.state = 'active' AND NOT s.exhausted AND NOT {WALL_TIME_OVER} AND {HAS_ROOM} AND EXISTS (
        SELECT FROM trimtab.trials p WHERE p.study_id = s.study_id AND p.state = 'paused' AND p.paused_by_search))"""
"""Whether the search of a study `s` may take up a trial that it paused."""

_TAKE_UP = Statement(f"""
WITH free AS ({FREE_SLOT}),
t AS (
    UPDATE trimtab.trials t
    SET state = 'running', paused_by_search = false, runs_until = :runs_until, reason = CAST(:reason AS jsonb),
        fence = t.fence + 1, lease_id = gen_random_uuid(), worker_id = free.worker_id, slot = free.slot,
        lease_until = trimtab.now() + s.lease_ttl, probe = {IS_PROBE}, curve = NULL
    FROM free, trimtab.studies s
    WHERE t.study_id = :study_id AND t.number = :number AND t.kind = 'trial' AND t.state = 'paused' AND t.paused_by_search
      AND s.study_id = t.study_id AND s.state = 'active' AND NOT s.exhausted AND NOT {WALL_TIME_OVER} AND {HAS_ROOM}
      AND NOT EXISTS (SELECT FROM trimtab.set_aside a WHERE a.study_id = s.study_id AND a.worker_id = :worker_id)
    RETURNING t.*, free.label),
{LEASED}""")


def take_up(
    connection: Connection,
    study_id: int,
    number: int,
    runs_until: int | None,
    reason: Reason | None,
    *,
    worker_id: UUID,
    claim_id: UUID,
    ordinal: int,
) -> LeaseRow | None:
    """Lease a trial that the search has paused; None when it is paused no more, or the worker has no free slot.

    Args:
        connection: one of `Database`.
        study_id: the study.
        number: the trial's number.
        runs_until: the number of epochs at which it is decided on again; None: it runs to its end.
        reason: why it goes on.
        worker_id: the worker that gets the lease.
        claim_id: names the request.
        ordinal: the position of this lease in its claim.

    Raises:
        IntegrityError: the same worker or claim was served at the same moment; read again.
    """
    row = _TAKE_UP.row(
        connection,
        first=HOLD_WORKER,
        study_id=study_id,
        number=number,
        runs_until=runs_until,
        reason=None if reason is None else reason.model_dump_json(),
        worker_id=worker_id,
        claim_id=claim_id,
        ordinal=ordinal,
    )
    return None if row is None else LeaseRow(*row)


_DECIDING = Statement("SELECT pg_advisory_xact_lock(hashtext('trimtab deciding'), :study_id)")
_BUDGET = Statement(f"""
SELECT s.trials_created, o.is_searched AND {HAS_ROOM}, o.is_searched AND s.trials_created < s.trials_limit AND NOT {NO_PROGRESS}
FROM trimtab.studies s
CROSS JOIN LATERAL (SELECT s.state = 'active' AND NOT s.exhausted AND NOT {WALL_TIME_OVER} AS is_searched) o
WHERE s.study_id = :study_id""")


def hold_decisions(connection: Connection, study_id: int) -> tuple[int, bool, bool]:
    """Wait until no other replica decides on the study's trials, and let none until this transaction ends.

    Returns:
        The number that a new trial would get, whether the study's search goes on, and whether it may begin a trial.

    Raises:
        Locked: another decision takes too long.
    """
    row = _BUDGET.row(connection, first=_DECIDING, study_id=study_id)
    return (0, False, False) if row is None else (row[0], row[1], row[2])


def prune_paused(connection: Connection, study_id: int, trial_id: int | None = None) -> None:
    """End the trials that the search has paused as pruned, with their last values; the caller holds the study's row.

    With a trial's id that one alone, whose row the caller holds, and whose reason is told already.
    """
    connection.execute(
        text("""
            WITH t AS (
                UPDATE trimtab.trials
                SET state = 'pruned', paused_by_search = false, ended_at = trimtab.now(),
                    reason = CASE WHEN CAST(:trial_id AS int) IS NOT NULL THEN reason
                        ELSE reason || jsonb_build_object('text', left(
                            'The search ended while the trial was paused. ' || (reason ->> 'text'), 1000)) END
                WHERE trial_id = coalesce(CAST(:trial_id AS int), trial_id) AND study_id = :study_id AND kind = 'trial'
                  AND state = 'paused' AND paused_by_search
                RETURNING trial_id, study_id, number, fence, curve, reason),
            shown AS (
                INSERT INTO public.trial_user_attributes (trial_id, key, value_json)
                SELECT trial_id, 'reason', CAST(reason -> 'text' AS text) FROM t WHERE reason IS NOT NULL),
            optuna AS (
                UPDATE public.trials p SET state = 'PRUNED', datetime_complete = trimtab.now() AT TIME ZONE 'UTC'
                FROM t WHERE p.trial_id = t.trial_id),
            optuna_value AS (
                INSERT INTO public.trial_values (trial_id, objective, value, value_type)
                SELECT trial_id, 0, CAST(curve -> -1 ->> 1 AS float8), 'FINITE' FROM t WHERE curve -> -1 ->> 1 IS NOT NULL),
            attributes AS (
                UPDATE public.trial_system_attributes a SET value_json = '"pruned"'
                FROM t WHERE a.trial_id = t.trial_id AND a.key = 'trimtab:state')
            INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
            SELECT study_id, trial_id, number, fence, 'trial_pruned', jsonb_strip_nulls(jsonb_build_object('reason', reason))
            FROM t"""),
        {"study_id": study_id, "trial_id": trial_id},
    )
