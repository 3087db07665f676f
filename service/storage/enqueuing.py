"""Trials that nobody has begun, in SQL: queued as Optuna's `enqueue_trial` does it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from service.storage.statements import Statement, array
from trimtab.contract.search_space import Scalar

_ENQUEUE = Statement("""
WITH asked AS (
    SELECT * FROM unnest(CAST(:hyperparameters AS text[]), CAST(:proposed_by AS text[]))
        WITH ORDINALITY AS a (hyperparameters, proposed_by, place)),
budget AS (
    UPDATE trimtab.studies s SET trials_created = s.trials_created + (SELECT count(*) FROM asked)
    WHERE s.study_id = :study_id
    RETURNING s.study_id, s.trials_created - (SELECT count(*) FROM asked) AS created),
optuna AS (
    INSERT INTO public.trials (number, study_id, state)
    SELECT b.created + a.place - 1, b.study_id, 'WAITING' FROM budget b, asked a
    RETURNING trial_id, number),
queued AS (
    SELECT a.*, b.study_id, o.trial_id, o.number
    FROM budget b CROSS JOIN asked a JOIN optuna o ON o.number = b.created + a.place - 1),
parameters AS (
    INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT trial_id, p.name, p.internal, p.distribution
    FROM unnest(CAST(:places AS int[]), CAST(:names AS text[]), CAST(:internals AS float8[]),
                CAST(:distributions AS text[])) AS p (place, name, internal, distribution) JOIN queued USING (place)),
attributes AS (
    INSERT INTO public.trial_system_attributes (trial_id, key, value_json)
    SELECT trial_id, pair.key, pair.value
    FROM queued, LATERAL (VALUES ('fixed_params', hyperparameters), ('trimtab:state', '"queued"')) pair (key, value)),
shown AS (
    INSERT INTO public.trial_user_attributes (trial_id, key, value_json)
    SELECT trial_id, 'proposed_by', to_json(proposed_by)::text FROM queued),
t AS (
    INSERT INTO trimtab.trials (trial_id, kind, study_id, number, state, hyperparameters, runs_until)
    SELECT trial_id, 'trial', study_id, number, 'queued', CAST(hyperparameters AS jsonb), CAST(:runs_until AS int)
    FROM queued
    RETURNING study_id, trial_id, number, fence, hyperparameters)
INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
SELECT t.study_id, trial_id, t.number, t.fence, 'trial_enqueued',
       jsonb_build_object('hyperparameters', t.hyperparameters, 'proposed_by', proposed_by)
FROM t JOIN queued USING (trial_id) ORDER BY t.number
RETURNING trial_number""")


@dataclass(frozen=True, slots=True)
class NewQueued:
    """A trial to queue.

    Attributes:
        values: the hyperparameters as the contract tells them.
        internal: per name Optuna's `param_value` and `distribution_json`.
        proposed_by: the origin of the values, as the Dashboard is to show it.
    """

    values: Mapping[str, Scalar]
    internal: Mapping[str, tuple[float, str]]
    proposed_by: str


def enqueue(
    connection: Connection,
    study_id: int,
    trials: Sequence[NewQueued],
    runs_until: int | None = None,
) -> int:
    """Take the trials from the budget and queue them, in their order; returns the number of the first one.

    The caller holds the study's row, and has seen that the budget has as many left.

    Args:
        connection: one of `Database`, in a transaction.
        study_id: the study.
        trials: the trials in their order.
        runs_until: the number of epochs at which the search decides on them first; None: they run to their end.

    Raises:
        IntegrityError: a stranger's trial in Optuna's tables has the number.
    """
    names = [
        (place, name, *stored)
        for place, one in enumerate(trials, 1)
        for name, stored in one.internal.items()
    ]
    rows = _ENQUEUE.rows(
        connection,
        study_id=study_id,
        runs_until=runs_until,
        hyperparameters=[json.dumps(dict(one.values)) for one in trials],
        proposed_by=[one.proposed_by for one in trials],
        places=array([row[0] for row in names]),
        names=[row[1] for row in names],
        internals=array([row[2] for row in names]),
        distributions=[row[3] for row in names],
    )
    return min(row[0] for row in rows)
