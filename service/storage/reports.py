"""Reports in SQL: the intermediate values of many lease holders in one statement, fenced by their leases."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from service.domain.decisions import Decision
from service.domain.facts import Curve
from service.storage.leases import WALL_TIME_OVER, LeaseFacts
from service.storage.statements import Statement, array
from trimtab.contract.leases import Report, Verdict
from trimtab.contract.reasons import Reason


@dataclass(frozen=True, slots=True)
class Stored:
    """What was reported so far: this attempt's (value, verdict) by step, and the trial's whole curve."""

    by_step: Mapping[int, tuple[float | None, Verdict]]
    curve: Curve


_REPORTED = Statement("""
SELECT trial_id, step, fence, value, verdict FROM trimtab.reports
WHERE trial_id = ANY(:trial_ids) ORDER BY trial_id, step, fence""")


def read_all(connection: Connection, facts: Mapping[UUID, LeaseFacts]) -> dict[UUID, Stored]:
    """Read the leases' trials' reports; a curve has, per step, the value of the newest attempt that reached it."""
    if not facts:
        return {}
    rows: dict[int, list[tuple[int, int, float | None, Verdict]]] = {}
    for trial_id, *row in _REPORTED.rows(
        connection, trial_ids=[one.trial_id for one in facts.values()]
    ):
        rows.setdefault(trial_id, []).append((row[0], row[1], row[2], row[3]))
    return {
        lease_id: _stored(rows.get(one.trial_id, []), one.fence)
        for lease_id, one in facts.items()
    }


def _stored(rows: Sequence[tuple[int, int, float | None, Verdict]], fence: int) -> Stored:
    curve = {step: value for step, _, value, _ in rows}
    mine: dict[int, tuple[float | None, Verdict]] = {
        step: (value, verdict) for step, by, value, verdict in rows if by == fence
    }
    return Stored(mine, tuple(curve.items()))


REPORT = Statement(f"""
WITH t AS (
    UPDATE trimtab.trials t
    SET lease_until = greatest(t.lease_until, trimtab.now() + s.lease_ttl), reported = t.reported + said.added,
        -- The audit begins at the first epoch at which the trial would have stopped.
        reason = CASE WHEN t.reason ->> 'rule' = 'audit' AND coalesce(CAST(said.reason AS jsonb) ->> 'rule', 'audit') = 'audit'
                      THEN t.reason
                      ELSE coalesce(CAST(said.reason AS jsonb), t.reason) END
    FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:added AS int[]), CAST(:known AS int[]), CAST(:reasons AS text[]), CAST(:space_edits AS int[]))
             AS said (lease_id, added, known, reason, space_edits),
         trimtab.studies s
    WHERE t.lease_id = said.lease_id AND t.state = 'running' AND s.study_id = t.study_id
      AND (said.known IS NULL
           OR said.space_edits = s.space_edits AND said.known = t.reported AND t.kind = 'trial' AND NOT t.stop_asked
               AND s.state = 'active' AND NOT {WALL_TIME_OVER})
    RETURNING t.lease_id, t.trial_id, t.study_id, t.number, t.fence),
batch AS (
    SELECT t.*, step, value, verdict, metrics
    FROM t JOIN unnest(CAST(:leases AS uuid[]), CAST(:steps AS int[]), CAST(:values AS float8[]),
                       CAST(:verdicts AS text[]), CAST(:metrics AS text[]))
        AS b (lease_id, step, value, verdict, metrics) USING (lease_id)),
stored AS (
    INSERT INTO trimtab.reports (trial_id, fence, step, value, verdict, metrics)
    SELECT trial_id, fence, step, value, verdict, CAST(metrics AS jsonb) FROM batch),
optuna AS (
    INSERT INTO public.trial_intermediate_values AS v (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT trial_id, step, value,
           CAST(CASE WHEN value IS NULL THEN 'NAN' ELSE 'FINITE' END AS public.trialintermediatevaluetype)
    FROM batch
    ON CONFLICT (trial_id, step) DO UPDATE SET intermediate_value = excluded.intermediate_value,
                                               intermediate_value_type = excluded.intermediate_value_type),
event AS (
    INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
    SELECT study_id, trial_id, number, fence, 'reported',
           jsonb_build_object('step', step, 'value', value, 'verdict', verdict) FROM batch)
SELECT lease_id FROM t""")


@dataclass(frozen=True, slots=True)
class NewReports:
    """What one holder reported that is not stored yet, and the verdict that its last step carries.

    Attributes:
        lease_id: the lease under which they were reported.
        reports: in the order in which they came.
        verdict: the answer to the last report.
        known: None where the verdict was decided on what is stored. Else it was decided for `leasing.WANTED` with this
            many reports: store only if the trial has no more, and is wanted so.
        reason: why the trial is to stop, or would be were it not audited; None: what is stored stays.
        space_edits: the number of changes of the study's space when the verdict was decided; not read where `known` is None.
    """

    lease_id: UUID
    reports: tuple[Report, ...]
    verdict: Verdict
    known: int | None = None
    reason: Reason | None = None
    space_edits: int = 0

    def verdict_of(self, report: Report) -> Verdict:
        """The verdict to keep with a step."""
        return self.verdict if report is self.reports[-1] else "continue"


def to_store(new: Sequence[NewReports]) -> dict[str, Any]:
    """What `REPORT` binds: one batch of each lease."""
    rows = [(one, report) for one in new for report in one.reports]
    return {
        "lease_ids": array([one.lease_id for one in new]),
        "added": array([len(one.reports) for one in new]),
        "known": array([one.known for one in new]),
        "reasons": [one.reason and one.reason.model_dump_json() for one in new],
        "space_edits": array([one.space_edits for one in new]),
        "leases": array([one.lease_id for one, _ in rows]),
        "steps": array([report.step for _, report in rows]),
        "values": array([report.value for _, report in rows]),
        "verdicts": [one.verdict_of(report) for one, report in rows],
        "metrics": [
            json.dumps(dict(report.metrics)) if report.metrics else "{}" for _, report in rows
        ],
    }


def store_all(connection: Connection, new: Sequence[NewReports]) -> set[UUID]:
    """Store the holders' reports and renew their leases; returns the leases that are still held.

    Raises:
        IntegrityError: a step of one of the attempts is stored already; nothing was stored.
    """
    kept = REPORT.rows(connection, **to_store(new))
    return {row[0] for row in kept}


_DECIDE = Statement("""
UPDATE trimtab.trials
SET runs_until = :runs_until, paused_by_search = :pauses,
    reason = CASE WHEN reason ->> 'rule' = 'audit' AND NOT :stops THEN reason
                  ELSE coalesce(CAST(:reason AS jsonb), reason) END
WHERE lease_id = :lease_id AND state = 'running'
RETURNING 1""")


def decide(connection: Connection, lease_id: UUID, decision: Decision) -> None:
    """Store what was decided on a trial, in the transaction that has just stored the report for which it was."""
    _DECIDE.rows(
        connection,
        lease_id=lease_id,
        runs_until=decision.runs_until,
        pauses=decision.verdict == "pause",
        stops=decision.verdict == "stop",
        reason=None if decision.reason is None else decision.reason.model_dump_json(),
    )
