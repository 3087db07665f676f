"""Trials in SQL: a proposal becomes a leased trial in one statement; trials as people read them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection, text

from service.storage.external import IS_PROBE
from service.storage.leases import (
    HAS_ROOM,
    HOLD_WORKER,
    NO_PROGRESS,
    WALL_TIME_OVER,
    LeaseRow,
)
from service.storage.ranking import BEST_FIRST, MAY_WIN
from service.storage.statements import Statement, array
from trimtab.contract.leases import LeaseKind
from trimtab.contract.metrics import Direction
from trimtab.contract.reasons import Reason
from trimtab.contract.search_space import Scalar
from trimtab.contract.trials import FailureKind, TrialState

START = Statement(f"""
WITH asked AS (
    SELECT * FROM unnest(CAST(:worker_ids AS uuid[]), CAST(:claim_ids AS uuid[]), CAST(:ordinals AS int[]),
                         CAST(:hyperparameters AS text[]), CAST(:proposed_by AS text[]), CAST(:runs_until AS int[]),
                         CAST(:reasons AS text[]))
        WITH ORDINALITY AS a (worker_id, claim_id, ordinal, hyperparameters, proposed_by, runs_until, reason, place)),
free AS (
    SELECT a.*, w.label, s.slot, row_number() OVER (ORDER BY a.place) AS nth, count(*) OVER () AS wanted
    FROM (SELECT *, row_number() OVER (PARTITION BY worker_id ORDER BY place) AS of_worker FROM asked) a
    JOIN trimtab.workers w ON w.worker_id = a.worker_id AND w.state = 'alive' AND NOT EXISTS (
        SELECT FROM trimtab.set_aside o WHERE o.study_id = :study_id AND o.worker_id = w.worker_id)
    JOIN LATERAL (
        SELECT n AS slot, row_number() OVER (ORDER BY n) AS of_worker FROM generate_series(0, w.capacity - 1) n
        WHERE NOT EXISTS (SELECT FROM trimtab.trials h
                          WHERE h.worker_id = w.worker_id AND h.state = 'running' AND h.slot = n)) s
        ON s.of_worker = a.of_worker),
budget AS (
    UPDATE trimtab.studies s
    SET trials_created = s.trials_created + f.wanted, active_since = coalesce(s.active_since, trimtab.now())
    FROM (SELECT wanted FROM free LIMIT 1) f
    WHERE s.study_id = :study_id AND s.state = 'active' AND s.trials_created + f.wanted <= s.trials_limit
      AND NOT s.exhausted AND NOT {WALL_TIME_OVER} AND NOT {NO_PROGRESS} AND {HAS_ROOM}
      -- A claim that looked before an edit gave the study this limit has waited for nobody.
      AND (s.parallel IS NULL OR :in_turn)
      AND s.space_edits = :space_edits
      AND s.trials_created = coalesce(CAST(:only_as_number AS int), s.trials_created)
      AND (CAST(:only_as_number AS int) IS NULL OR f.wanted = (SELECT count(*) FROM asked))
    RETURNING s.study_id, s.trials_created - f.wanted AS created, s.lease_ttl, {IS_PROBE} AS probe),
optuna AS (
    INSERT INTO public.trials (number, study_id, state, datetime_start)
    SELECT b.created + f.nth - 1, b.study_id, 'RUNNING', trimtab.now() AT TIME ZONE 'UTC' FROM budget b, free f
    RETURNING trial_id, number),
started AS (
    SELECT f.*, b.study_id, b.lease_ttl, b.probe, o.trial_id, o.number
    FROM budget b CROSS JOIN free f JOIN optuna o ON o.number = b.created + f.nth - 1),
parameters AS (
    INSERT INTO public.trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT trial_id, p.name, p.internal, p.distribution
    FROM unnest(CAST(:name_places AS int[]), CAST(:names AS text[]), CAST(:internals AS float8[]),
                CAST(:distributions AS text[])) AS p (place, name, internal, distribution) JOIN started USING (place)),
attributes AS (
    INSERT INTO public.trial_system_attributes (trial_id, key, value_json)
    SELECT trial_id, a.key, a.value
    FROM unnest(CAST(:key_places AS int[]), CAST(:keys AS text[]), CAST(:attributes AS text[]))
        AS a (place, key, value) JOIN started USING (place)),
shown AS (
    INSERT INTO public.trial_user_attributes (trial_id, key, value_json)
    SELECT trial_id, 'proposed_by', to_json(proposed_by)::text FROM started WHERE proposed_by IS NOT NULL),
t AS (
    INSERT INTO trimtab.trials (trial_id, kind, study_id, number, state, hyperparameters, fence,
                                lease_id, worker_id, slot, lease_until, started_at, probe, runs_until, reason)
    SELECT trial_id, 'trial', study_id, number, 'running', CAST(hyperparameters AS jsonb), 1,
           gen_random_uuid(), worker_id, slot, trimtab.now() + lease_ttl, trimtab.now(), probe, runs_until,
           CAST(reason AS jsonb)
    FROM started RETURNING lease_id, study_id, trial_id, number, fence, hyperparameters, runs_until),
attempt AS (
    INSERT INTO trimtab.attempts (lease_id, trial_id, kind, fence, worker_id, claim_id, ordinal)
    SELECT lease_id, trial_id, 'trial', fence, worker_id, claim_id, ordinal FROM t JOIN started USING (trial_id)),
event AS (
    INSERT INTO trimtab.events (study_id, trial_id, trial_number, fence, kind, body)
    SELECT t.study_id, trial_id, t.number, fence, 'trial_started',
           jsonb_strip_nulls(jsonb_build_object('worker', label, 'proposed_by', proposed_by))
           || jsonb_build_object('hyperparameters', t.hyperparameters)
    FROM t JOIN started USING (trial_id))
SELECT place, t.lease_id, t.study_id, trial_id, t.number, t.fence, t.hyperparameters, t.runs_until
FROM t JOIN started USING (trial_id)""")


@dataclass(frozen=True, slots=True)
class NewTrial:
    """A proposal that is to become a leased trial.

    Attributes:
        values: the hyperparameters as the contract tells them.
        internal: per name Optuna's `param_value` and `distribution_json`.
        attributes: trial system attributes that the sampler wants kept.
        only_as_number: store only as the trial of this number. Of several at once, each has the number after the one before.
        worker_id: the worker that gets the lease.
        claim_id: names the request.
        ordinal: the position of this lease in its claim.
        proposed_by: the origin of the proposal, as the Dashboard is to show it; None: nothing is kept.
        runs_until: the number of epochs at which the search decides on it again; None: it runs to its end.
        reason: why it begins; None: nothing is kept.
    """

    values: Mapping[str, Scalar]
    internal: Mapping[str, tuple[float, str]]
    attributes: Mapping[str, JsonValue]
    only_as_number: int | None
    worker_id: UUID
    claim_id: UUID
    ordinal: int
    proposed_by: str | None = None
    runs_until: int | None = None
    reason: Reason | None = None


def to_start(
    study_id: int, new: Sequence[NewTrial], *, in_turn: bool = False, space_edits: int = 0
) -> dict[str, Any]:
    """What `START` binds: trials of one study, each for a slot of its own; all of them or none are stored."""
    names = [
        (place, name, *stored)
        for place, one in enumerate(new, 1)
        for name, stored in one.internal.items()
    ]
    keys = [
        (place, key, json.dumps(value))
        for place, one in enumerate(new, 1)
        for key, value in one.attributes.items()
    ]
    return {
        "study_id": study_id,
        "in_turn": in_turn,
        "space_edits": space_edits,
        "only_as_number": new[0].only_as_number,
        "worker_ids": array([one.worker_id for one in new]),
        "claim_ids": array([one.claim_id for one in new]),
        "ordinals": array([one.ordinal for one in new]),
        "hyperparameters": [json.dumps(dict(one.values)) for one in new],
        "proposed_by": [one.proposed_by for one in new],
        "runs_until": array([one.runs_until for one in new]),
        "reasons": [one.reason and one.reason.model_dump_json() for one in new],
        "name_places": array([row[0] for row in names]),
        "names": [row[1] for row in names],
        "internals": array([row[2] for row in names]),
        "distributions": [row[3] for row in names],
        "key_places": array([row[0] for row in keys]),
        "keys": [row[1] for row in keys],
        "attributes": [row[2] for row in keys],
    }


def started(row: tuple[Any, ...]) -> tuple[int, LeaseRow]:
    """A row of `START`: which of the new trials it is, from 0, and its lease."""
    place, lease_id, study_id, trial_id, number, fence, hyperparameters, runs_until = row
    lease = LeaseRow(
        lease_id,
        "trial",
        study_id,
        trial_id,
        number,
        fence,
        hyperparameters,
        checkpoint=None,
        previous_checkpoint=None,
        trial_value=None,
        runs_until=runs_until,
    )
    return place - 1, lease


def start(
    connection: Connection,
    study_id: int,
    new: NewTrial,
    *,
    in_turn: bool = False,
    space_edits: int = 0,
) -> LeaseRow | None:
    """Take one trial from the budget and store it, leased, with its Optuna trial; None when nothing was stored.

    Args:
        connection: one of `Database`.
        study_id: the study.
        new: the trial.
        in_turn: the caller holds the study's decisions, as it must where `parallel` limits its trials.
        space_edits: the number of changes of the study's space before the proposal, which is void after another one.

    Raises:
        IntegrityError: the same worker or claim was served at the same moment; read again.
    """
    row = START.row(
        connection,
        first=HOLD_WORKER,
        worker_id=new.worker_id,
        **to_start(study_id, [new], in_turn=in_turn, space_edits=space_edits),
    )
    return None if row is None else started(row)[1]


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
    proposed_by: str | None
    runs_until: int | None
    paused_by_search: bool
    reason: dict[str, Any] | None
    measured: dict[str, float] | None
    violations: list[float] | None
    """The shares of their bounds by which constraints are violated, in their order; 0 or less: kept."""
    feasible: bool
    second_value: float | None
    checkpoint: dict[str, Any] | None


_TRIAL_COLUMNS = """
    t.trial_id, t.number, t.state, t.hyperparameters, t.value,
    coalesce(t.curve, (
        SELECT jsonb_agg(jsonb_build_array(v.step, v.intermediate_value) ORDER BY v.step)
        FROM public.trial_intermediate_values v WHERE v.trial_id = t.trial_id), '[]') AS curve,
    t.crashes, t.error_kind, t.error_message, t.created_at, t.started_at, t.ended_at,
    (SELECT u.value_json::json #>> '{}' FROM public.trial_user_attributes u
     WHERE u.trial_id = t.trial_id AND u.key = 'proposed_by') AS proposed_by,
    t.runs_until, t.paused_by_search, t.reason, t.measured, t.violations, t.feasible, t.second_value,
    t.checkpoint"""


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


def metrics(connection: Connection, trial_id: int) -> dict[int, dict[str, float]]:
    """What was measured beside the objective, by step, of the newest attempt that reached it."""
    rows = connection.execute(
        text("""
            SELECT DISTINCT ON (step) step, metrics FROM trimtab.reports
            WHERE trial_id = :trial_id ORDER BY step, fence DESC"""),
        {"trial_id": trial_id},
    ).all()
    return {row.step: row.metrics for row in rows}


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


@dataclass(frozen=True, slots=True)
class Failure:
    """How a trial or a final evaluation failed for good."""

    number: int
    kind: FailureKind
    message: str | None

    @property
    def in_words(self) -> str:
        """The message, and before it the kind of failure that it was."""
        if self.kind == "poison":
            return self.message or self.kind  # which names the kinds of all tries
        return ": ".join(filter(None, (self.kind, self.message)))


def last_failure(connection: Connection, study_id: int, kind: LeaseKind) -> Failure | None:
    """The last of the study's trials, or its final evaluation, that failed for good; None where none did."""
    row = connection.execute(
        text("""
            SELECT number, error_kind, error_message FROM trimtab.trials
            WHERE study_id = :study_id AND kind = :kind AND NOT past AND state = 'failed' ORDER BY ended_at DESC, number LIMIT 1"""),
        {"study_id": study_id, "kind": kind},
    ).one_or_none()
    return None if row is None else Failure(*row)


def best(connection: Connection, study_id: int, direction: Direction) -> TrialRow | None:
    """The completed trial that is the best in the order of `ranking`."""
    row = connection.execute(
        text(f"""
            SELECT {_TRIAL_COLUMNS} FROM trimtab.trials t
            WHERE t.study_id = :study_id AND {MAY_WIN}
            ORDER BY {BEST_FIRST[direction]} LIMIT 1"""),
        {"study_id": study_id},
    ).one_or_none()
    return None if row is None else TrialRow(*row)
