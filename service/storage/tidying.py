"""The sweeper's own row, what it looks at before it revokes anything, and the repair of Optuna's tables."""

from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import Connection, text

from service.domain.lifecycle import TRIAL_STEPS, optuna_state
from service.domain.tidying import Running
from trimtab.contract.trials import FailureKind

TRIAL_NUMBERS = "trimtab_trial_number"
"""The rule that keeps two trials of a study of ours from having the same number."""


@dataclass(frozen=True, slots=True)
class Sweeper:
    """When any replica last swept, and for how long a mass expiry has been held back. Durations in seconds."""

    silence_s: float
    held_s: float | None


def lock_sweeper(connection: Connection) -> Sweeper | None:
    """Lock the sweeper's row for this transaction; None while another replica has it."""
    row = connection.execute(
        text("""
            SELECT CAST(extract(epoch FROM trimtab.now() - swept_at) AS float8),
                   CAST(extract(epoch FROM trimtab.now() - held_since) AS float8)
            FROM trimtab.sweeper FOR UPDATE SKIP LOCKED""")
    ).one_or_none()
    return None if row is None else Sweeper(*row)


def note_sweep(connection: Connection, *, holding: bool) -> None:
    """Note that a sweep looked at the leases now, and whether it holds a mass expiry back."""
    connection.execute(
        text("""
            UPDATE trimtab.sweeper
            SET swept_at = trimtab.now(),
                held_since = CASE WHEN :holding THEN coalesce(held_since, trimtab.now()) END"""),
        {"holding": holding},
    )


def extend(connection: Connection, below_ttl_s: float) -> int:
    """Let every running lease with a shorter time to live begin anew; returns how many."""
    return connection.execute(
        text("""
            UPDATE trimtab.trials t SET lease_until = greatest(t.lease_until, trimtab.now() + s.lease_ttl)
            FROM trimtab.studies s
            WHERE t.state = 'running' AND s.study_id = t.study_id
              AND s.lease_ttl < make_interval(secs => :below_ttl_s)"""),
        {"below_ttl_s": below_ttl_s},
    ).rowcount


def running(connection: Connection) -> Running:
    """Count the workers that hold leases and those that are silent, and the leases past their time."""
    row = connection.execute(
        text("""
            SELECT count(*), count(*) FILTER (WHERE expired = held), CAST(coalesce(sum(expired), 0) AS int),
                   CAST(extract(epoch FROM min(shortest)) AS float8), CAST(extract(epoch FROM max(longest)) AS float8)
            FROM (SELECT count(*) AS held, count(*) FILTER (WHERE t.lease_until < trimtab.now()) AS expired,
                         min(s.lease_ttl) AS shortest,
                         max(s.lease_ttl) FILTER (WHERE t.lease_until < trimtab.now()) AS longest
                  FROM trimtab.trials t JOIN trimtab.studies s USING (study_id) WHERE t.state = 'running'
                  GROUP BY t.worker_id) w""")
    ).one()
    return Running(*row)


def take_turn_to_reconcile(connection: Connection, every_s: float) -> bool:
    """Whether it is time to compare Optuna's tables with ours, and this replica's turn."""
    return _take_turn(connection, "reconciled_at", every_s)


def take_turn_to_collect(connection: Connection, every_s: float) -> bool:
    """Whether it is time to look for artifacts that nothing needs, and this replica's turn."""
    return _take_turn(connection, "collected_at", every_s)


def _take_turn(
    connection: Connection, last: Literal["reconciled_at", "collected_at"], every_s: float
) -> bool:
    row = connection.execute(
        text(f"""
            UPDATE trimtab.sweeper SET {last} = trimtab.now()
            WHERE {last} < trimtab.now() - make_interval(secs => :every_s) RETURNING 1"""),
        {"every_s": every_s},
    ).one_or_none()
    return row is not None


def _mapping() -> str:
    """The lifecycle's word for each trial, as SQL: kinds with a word of their own first."""
    special = [
        f"WHEN t.state = '{state}' AND t.error_kind = '{kind}' THEN '{optuna_state(state, kind)}'"
        for state in TRIAL_STEPS
        for kind in get_args(FailureKind)
        if optuna_state(state, kind) != optuna_state(state)
    ]
    general = [
        f"WHEN t.state = '{state}' THEN '{optuna_state(state)}'" for state in TRIAL_STEPS
    ]
    return "CASE " + " ".join([*special, *general]) + " END"


_WANTED = _mapping()


def lock_disagreeing(connection: Connection, limit: int = 100) -> list[int]:
    """Lock trials whose state in Optuna's tables is not what ours says; returns their ids."""
    rows = connection.execute(
        text(f"""
            SELECT t.trial_id FROM trimtab.trials t
            JOIN trimtab.studies s USING (study_id) JOIN public.trials p USING (trial_id)
            WHERE t.kind = 'trial' AND s.state NOT IN ('done', 'cancelled') AND p.state::text <> {_WANTED}
            ORDER BY t.trial_id LIMIT :limit FOR UPDATE OF t SKIP LOCKED"""),
        {"limit": limit},
    )
    return list(rows.scalars())


def repair(connection: Connection, trial_id: int) -> bool:
    """Make Optuna's row of one trial say what ours says; False when it does already.

    The caller holds our row, and this statement sees what was committed before that.
    """
    row = connection.execute(
        text(f"""
            WITH was AS (
                SELECT p.state::text AS optuna, {_WANTED} AS wanted, t.*
                FROM public.trials p JOIN trimtab.trials t USING (trial_id)
                WHERE p.trial_id = :trial_id AND t.kind = 'trial' AND p.state::text <> {_WANTED}),
            optuna AS (
                UPDATE public.trials p
                SET state = CAST(was.wanted AS public.trialstate),
                    datetime_complete = was.ended_at AT TIME ZONE 'UTC'
                FROM was WHERE p.trial_id = was.trial_id),
            dropped AS (
                DELETE FROM public.trial_values v USING was
                WHERE v.trial_id = was.trial_id AND was.state <> 'completed'),
            stored AS (
                INSERT INTO public.trial_values AS v (trial_id, objective, value, value_type)
                SELECT trial_id, 0, value, CAST('FINITE' AS public.trialvaluetype) FROM was WHERE state = 'completed'
                UNION ALL
                SELECT trial_id, 1, second_value, 'FINITE' FROM was WHERE second_value IS NOT NULL
                ON CONFLICT (trial_id, objective) DO UPDATE SET value = excluded.value, value_type = 'FINITE')
            INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
            SELECT study_id, trial_id, number, fence, 'trial_repaired', jsonb_build_object('was', optuna, 'is', wanted)
            FROM was RETURNING 1"""),
        {"trial_id": trial_id},
    ).one_or_none()
    return row is not None


def renumber_strangers(connection: Connection) -> None:
    """Move what others began in our studies out of the way: ours are numbered 0, 1, 2, ... to the end of the budget."""
    connection.execute(
        text("""
            UPDATE public.trials p
            SET number = (SELECT greatest(s.trials_limit, 1 + max(o.number))
                          FROM public.trials o WHERE o.study_id = p.study_id)
            FROM trimtab.studies s
            WHERE p.study_id = s.study_id AND p.number = s.trials_created AND s.state = 'active'
              AND NOT EXISTS (SELECT FROM trimtab.trials t WHERE t.trial_id = p.trial_id)""")
    )


def fail_orphans(connection: Connection, older_than_s: float) -> int:
    """End what others began in our studies and left running; returns how many."""
    return connection.execute(
        text("""
            WITH p AS (
                UPDATE public.trials p SET state = 'FAIL', datetime_complete = trimtab.now() AT TIME ZONE 'UTC'
                FROM trimtab.studies s
                WHERE p.study_id = s.study_id AND p.state = 'RUNNING'
                  AND p.datetime_start < trimtab.now() AT TIME ZONE 'UTC' - make_interval(secs => :older_than_s)
                  AND NOT EXISTS (SELECT FROM trimtab.trials t WHERE t.trial_id = p.trial_id)
                RETURNING p.trial_id, p.study_id, p.number),
            attributes AS (
                INSERT INTO public.trial_system_attributes (trial_id, key, value_json)
                SELECT trial_id, 'trimtab:orphan', 'true' FROM p)
            INSERT INTO trimtab.events (study_id, kind, body)
            SELECT study_id, 'orphan_failed', jsonb_build_object('optuna_number', number) FROM p"""),
        {"older_than_s": older_than_s},
    ).rowcount
