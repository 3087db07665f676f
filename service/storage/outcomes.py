"""What a trial is beside its objective value that completes, or is not trained: parts of the statement that ends leases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from service.domain.leasing import Departure
from service.storage.statements import array
from trimtab.contract.leases import LeaseKind
from trimtab.contract.objectives import COSTS

FOUND = """
found AS (
    -- What a trial that completes is beside its value, and what one is that was not trained.
    SELECT d.lease_id, m.measured, v.violations,
           CASE WHEN d.state = 'completed'
                THEN CAST(m.measured ->> (s.second ->> 'metric') AS float8) END AS second_value,
           s.second IS NULL OR d.state <> 'completed' OR coalesce(m.measured ? (s.second ->> 'metric'), false) AS is_whole,
           NOT coalesce(jsonb_path_exists(v.violations, '$[*] ? (@ > 0)'), false) AS feasible
    FROM d JOIN trimtab.trials t ON t.lease_id = d.lease_id JOIN trimtab.studies s USING (study_id),
         LATERAL (SELECT CAST(d.measured AS jsonb) AS measured) m,
         LATERAL (SELECT CASE WHEN s.constraints IS NOT NULL
                         THEN trimtab.violations(s.constraints, coalesce(m.measured, '{}')) END AS shares) w,
         LATERAL (SELECT CASE WHEN d.state = 'completed' THEN w.shares ELSE (
                      -- What is measured at its end alone is neither kept nor violated.
                      SELECT jsonb_agg(CASE WHEN m.measured ? (c.bounds ->> 'metric') THEN w.shares -> CAST(c.place AS int) - 1
                                            ELSE '0' END ORDER BY c.place)
                      FROM jsonb_array_elements(s.constraints) WITH ORDINALITY c (bounds, place)) END AS violations) v
    WHERE (d.state = 'completed' OR d.state = 'pruned' AND d.measured IS NOT NULL) AND t.kind = 'trial'),"""
"""A row for each trial that completes or is not trained, from what is decided, `d`: what was measured, and whether it keeps the constraints."""

ALONE = "NOT EXISTS (SELECT FROM trimtab.studies o WHERE o.study_id = t.study_id AND o.second IS NOT NULL)"
"""Whether the study of a trial `t` has one objective: of two, Optuna takes both values or none."""

_COSTS = ", ".join(f"'{cost}'" for cost in COSTS)

SHOWN = f"""
shown AS (
    -- What a person sees in the Dashboard of a trial that failed, or that the search stopped.
    INSERT INTO public.trial_user_attributes AS a (trial_id, key, value_json)
    SELECT t.trial_id, 'failure',
           to_json(concat_ws(': ', nullif(t.error_kind, 'poison'), nullif(t.error_message, '')))::text
    FROM t WHERE t.kind = 'trial' AND t.error_kind IS NOT NULL AND t.is_over
    UNION ALL
    SELECT t.trial_id, 'reason', CAST(t.reason -> 'text' AS text)
    FROM t WHERE t.kind = 'trial' AND t.state = 'pruned' AND t.reason IS NOT NULL
    UNION ALL
    SELECT t.trial_id, cost.key, CAST(cost.value AS text)
    FROM t, LATERAL jsonb_each(t.measured) cost WHERE cost.key IN ({_COSTS}))"""
"""What Optuna's user attributes tell of a trial `t` that leaves its lease."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A lease that ends, as decided; the rest is of the message that settles it."""

    lease_id: UUID
    departure: Departure
    kind: LeaseKind
    outcome_sha256: str | None = None
    validation_outputs: str | None = None
    """What a completed trial answered to the validation split, as JSON."""
    measured: str | None = None
    """What was measured of a trial's model, as JSON."""
    reason: str | None = None
    """Why a trial was not trained, as JSON."""


def to_leave(leaving: Sequence[Leaving], *, only_trials: bool) -> dict[str, Any]:
    """What `HOLD` and `LEAVE` bind."""
    departures = [one.departure for one in leaving]
    return {
        "only_trials": only_trials,
        "lease_ids": array([one.lease_id for one in leaving]),
        "hashes": [one.outcome_sha256 for one in leaving],
        "validation_outputs": [one.validation_outputs for one in leaving],
        "measured": [one.measured for one in leaving],
        "reasons": [one.reason for one in leaving],
        "events": [one.departure.event(one.kind) for one in leaving],
        "states": [one.state for one in departures],
        "outcomes": [one.outcome for one in departures],
        "crashes": array([int(one.crash) for one in departures]),
        "delays": array([one.delay_s for one in departures]),
        "values": array([one.value for one in departures]),
        "error_kinds": [one.error_kind for one in departures],
        "error_messages": [one.error_message for one in departures],
        "are_over": [one.is_over for one in departures],
        "optuna_states": [one.optuna_state for one in departures],
    }
