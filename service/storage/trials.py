"""Trials in SQL: a proposal becomes a leased trial in one statement; trials as people read them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection, text

from service.storage.leases import (
    FREE_SLOT,
    LEASE_COLUMNS,
    WALL_TIME_OVER,
    LeaseRow,
)
from service.storage.statements import Statement, array
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import Scalar
from trimtab.contract.trials import FailureKind, TrialState

_START = Statement(f"""
WITH free AS ({FREE_SLOT}),
budget AS (
    UPDATE trimtab.studies s SET trials_created = s.trials_created + 1 FROM free
    WHERE s.study_id = :study_id AND s.state = 'active' AND s.trials_created < s.trials_limit
      AND NOT s.exhausted AND NOT {WALL_TIME_OVER}
      AND s.trials_created = coalesce(CAST(:only_as_number AS int), s.trials_created)
    RETURNING s.study_id, s.trials_created - 1 AS number, s.lease_ttl, free.worker_id, free.slot, free.label),
optuna AS (
    INSERT INTO public.trials (number, study_id, state, datetime_start)
    SELECT number, study_id, 'RUNNING', trimtab.now() AT TIME ZONE 'UTC' FROM budget RETURNING trial_id),
parameters AS (
    INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT trial_id, p.* FROM optuna,
        unnest(CAST(:names AS text[]), CAST(:internals AS float8[]), CAST(:distributions AS text[])) AS p),
attributes AS (
    INSERT INTO public.trial_system_attributes (trial_id, key, value_json)
    SELECT trial_id, a.* FROM optuna, unnest(CAST(:keys AS text[]), CAST(:attributes AS text[])) AS a),
t AS (
    INSERT INTO trimtab.trials (trial_id, kind, study_id, number, state, hyperparameters, fence,
                                lease_id, worker_id, slot, lease_until, started_at)
    SELECT optuna.trial_id, 'trial', b.study_id, b.number, 'running', CAST(:hyperparameters AS jsonb), 1,
           gen_random_uuid(), b.worker_id, b.slot, trimtab.now() + b.lease_ttl, trimtab.now()
    FROM budget b, optuna RETURNING *),
attempt AS (
    INSERT INTO trimtab.attempts (lease_id, trial_id, kind, fence, worker_id, claim_id, ordinal)
    SELECT lease_id, trial_id, kind, fence, worker_id, :claim_id, :ordinal FROM t),
event AS (
    INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
    SELECT t.study_id, trial_id, t.number, fence, 'trial_started',
           jsonb_build_object('worker', label, 'hyperparameters', t.hyperparameters) FROM t, budget)
SELECT {LEASE_COLUMNS.replace("SELECT v.value FROM trimtab.trials v WHERE v.trial_id = t.trial_id AND v.kind = 'trial'", "NULL::float8")}
FROM t""")


def start(
    connection: Connection,
    study_id: int,
    *,
    values: Mapping[str, Scalar],
    internal: Mapping[str, tuple[float, str]],
    attributes: Mapping[str, JsonValue],
    only_as_number: int | None,
    worker_id: UUID,
    claim_id: UUID,
    ordinal: int,
) -> LeaseRow | None:
    """Take one trial from the budget and store it, leased, with its Optuna trial; None when nothing was stored.

    Args:
        connection: of `Database.statements`.
        study_id: whose budget pays.
        values: the hyperparameters as the contract tells them.
        internal: per name Optuna's `param_value` and `distribution_json`.
        attributes: trial system attributes that the sampler wants kept.
        only_as_number: store only if this is still the study's next trial number.
        worker_id: who gets the lease.
        claim_id: of the request.
        ordinal: position of this lease in its claim.

    Raises:
        IntegrityError: the same worker or claim was served at the same moment; read again.
    """
    row = _START.row(
        connection,
        study_id=study_id,
        hyperparameters=json.dumps(dict(values)),
        names=list(internal),
        internals=array([value for value, _ in internal.values()]),
        distributions=[distribution for _, distribution in internal.values()],
        keys=list(attributes),
        attributes=[json.dumps(value) for value in attributes.values()],
        only_as_number=only_as_number,
        worker_id=worker_id,
        claim_id=claim_id,
        ordinal=ordinal,
    )
    return None if row is None else LeaseRow(*row)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial as people read it."""

    trial_id: int
    number: int
    state: TrialState
    hyperparameters: dict[str, Any]
    value: float | None
    curve: list[tuple[int, float | None]]
    crashes: int
    error_kind: FailureKind | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


_TRIAL_COLUMNS = """
    t.trial_id, t.number, t.state, t.hyperparameters, t.value,
    coalesce(t.curve, (
        SELECT jsonb_agg(jsonb_build_array(v.step, v.intermediate_value) ORDER BY v.step)
        FROM public.trial_intermediate_values v WHERE v.trial_id = t.trial_id), '[]') AS curve,
    t.crashes, t.error_kind, t.error_message, t.created_at, t.started_at, t.ended_at"""


def page(
    connection: Connection, study_id: int, *, after: int, size: int, state: str | None
) -> list[TrialRow]:
    """Trials in the order of their numbers, beginning behind number `after`."""
    rows = connection.execute(
        text(f"""
            SELECT {_TRIAL_COLUMNS} FROM trimtab.trials t
            WHERE t.study_id = :study_id AND t.kind = 'trial' AND t.number > :after
              AND t.state = coalesce(CAST(:state AS text), t.state)
            ORDER BY t.number LIMIT :size"""),
        {"study_id": study_id, "after": after, "size": size, "state": state},
    ).all()
    return [TrialRow(*row) for row in rows]


def read(connection: Connection, study_id: int, number: int) -> TrialRow | None:
    """One trial, or None."""
    row = connection.execute(
        text(f"""
            SELECT {_TRIAL_COLUMNS} FROM trimtab.trials t
            WHERE t.study_id = :study_id AND t.kind = 'trial' AND t.number = :number"""),
        {"study_id": study_id, "number": number},
    ).one_or_none()
    return None if row is None else TrialRow(*row)


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One holder's go at a trial."""

    fence: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None


def attempts(connection: Connection, trial_id: int) -> list[AttemptRow]:
    """The trial's attempts in the order of their fences."""
    rows = connection.execute(
        text("""
            SELECT a.fence, w.label, a.started_at, a.ended_at, a.outcome
            FROM trimtab.attempts a JOIN trimtab.workers w USING (worker_id)
            WHERE a.trial_id = :trial_id AND a.kind = 'trial' ORDER BY a.fence"""),
        {"trial_id": trial_id},
    ).all()
    return [AttemptRow(*row) for row in rows]


BEST_FIRST: Mapping[Direction, str] = {
    "maximize": "value DESC, number",
    "minimize": "value, number",
}
"""Both orders read `trials_completed` from one of its ends, and sort none but equals."""


def best(connection: Connection, study_id: int, direction: Direction) -> TrialRow | None:
    """The completed trial of the best objective value; of equals the first."""
    row = connection.execute(
        text(f"""
            SELECT {_TRIAL_COLUMNS} FROM trimtab.trials t
            WHERE t.study_id = :study_id AND t.kind = 'trial' AND t.state = 'completed'
            ORDER BY {BEST_FIRST[direction]} LIMIT 1"""),
        {"study_id": study_id},
    ).one_or_none()
    return None if row is None else TrialRow(*row)
