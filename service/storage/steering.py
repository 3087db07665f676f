"""One trial that a person stops or has tried again, in SQL."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from trimtab.contract.reasons import Reason
from trimtab.contract.trials import TrialState


@dataclass(frozen=True, slots=True)
class LockedTrial:
    """A trial whose row this transaction holds."""

    trial_id: int
    state: TrialState
    epochs: int
    """The number of epochs that it has reported."""
    reason: dict[str, Any] | None
    paused_by_search: bool
    states: tuple[str, ...]
    """The names of the artifacts that hold its training states."""


def lock(connection: Connection, study_id: int, number: int) -> LockedTrial | None:
    """Lock the trial's row for this transaction."""
    row = connection.execute(
        text("""
            SELECT t.trial_id, t.state,
                   (SELECT CAST(count(*) AS int) FROM public.trial_intermediate_values v WHERE v.trial_id = t.trial_id),
                   t.reason, t.paused_by_search,
                   array_remove(ARRAY[t.checkpoint ->> 'sha256', t.previous_checkpoint ->> 'sha256',
                                      t.best_checkpoint ->> 'sha256'], NULL)
            FROM trimtab.trials t
            WHERE t.study_id = :study_id AND t.kind = 'trial' AND t.number = :number FOR UPDATE OF t"""),
        {"study_id": study_id, "number": number},
    ).one_or_none()
    return (
        None
        if row is None
        else LockedTrial(row[0], row[1], row[2], row[3], row[4], tuple(row[5]))
    )


def give_reason(connection: Connection, trial_id: int, reason: Reason) -> None:
    """Keep why the trial ends."""
    connection.execute(
        text("""
            UPDATE trimtab.trials SET reason = CAST(:reason AS jsonb) WHERE trial_id = :trial_id AND kind = 'trial'"""),
        {"trial_id": trial_id, "reason": reason.model_dump_json()},
    )


def ask_to_stop(connection: Connection, trial_id: int) -> None:
    """Have the next verdict on a running trial say so."""
    connection.execute(
        text("""
            WITH t AS (
                UPDATE trimtab.trials SET stop_asked = true
                WHERE trial_id = :trial_id AND kind = 'trial' AND state = 'running'
                RETURNING study_id, trial_id, number, fence)
            INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind)
            SELECT study_id, trial_id, number, fence, 'trial_stop_asked' FROM t"""),
        {"trial_id": trial_id},
    )


def retry(connection: Connection, trial_id: int, missing: list[str]) -> None:
    """Queue a failed trial again, without its crashes; a state in `missing` is not there to go on from."""
    connection.execute(
        text("""
            WITH t AS (
                UPDATE trimtab.trials
                SET state = 'queued', not_before = trimtab.now(), crashes = 0, error_kind = NULL, error_message = NULL,
                    ended_at = NULL, stop_asked = false, paused_by_search = false, reason = NULL,
                    checkpoint = CASE WHEN checkpoint ->> 'sha256' <> ALL(:missing) THEN checkpoint END,
                    previous_checkpoint = CASE WHEN checkpoint ->> 'sha256' <> ALL(:missing)
                                                AND previous_checkpoint ->> 'sha256' <> ALL(:missing)
                                               THEN previous_checkpoint END,
                    best_checkpoint = CASE WHEN best_checkpoint ->> 'sha256' <> ALL(:missing) THEN best_checkpoint END
                WHERE trial_id = :trial_id AND kind = 'trial' AND state = 'failed'
                RETURNING study_id, trial_id, number, fence, hyperparameters),
            optuna AS (
                UPDATE public.trials p SET state = 'WAITING', datetime_complete = NULL
                FROM t WHERE p.trial_id = t.trial_id),
            attributes AS (
                INSERT INTO public.trial_system_attributes AS a (trial_id, key, value_json)
                SELECT t.trial_id, pair.key, pair.value::text
                FROM t, LATERAL (VALUES ('trimtab:state', CAST('"queued"' AS jsonb)), ('fixed_params', t.hyperparameters),
                                        ('trimtab:error_kind', CAST('null' AS jsonb))) pair (key, value)
                ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json),
            shown AS (
                DELETE FROM public.trial_user_attributes u USING t WHERE u.trial_id = t.trial_id AND u.key = 'failure')
            INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind)
            SELECT study_id, trial_id, number, fence, 'trial_retried' FROM t"""),
        {"trial_id": trial_id, "missing": missing},
    )
