"""The studies that have work, in the order in which claims serve them.

A study whose data is not known yet has none for others while a lease of it runs: that one is its probe.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from service.domain.serving import TURN
from service.storage.external import FOR_CLAIMANT, IS_PROBE
from service.storage.leases import (
    HAS_ROOM,
    NO_PROGRESS,
    ONE_AT_A_TIME,
    WALL_TIME_OVER,
)
from service.storage.statements import Statement
from service.storage.taking_up import MAY_TAKE_UP

MOST_STUDIES = 50
"""The most studies that one look reads; a claim that none of so many can serve looks on its own."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study that may have work, in the order in which claims serve them."""

    study_id: int
    name: str
    trials_created: int
    has_queued: bool
    may_propose: bool
    has_paused: bool
    one_at_a_time: bool
    running: int
    space_edits: int = 0
    """How often its space was changed: a document that is remembered may be older."""


def studies_with_work(*, counted: str = "true", open_to: str = "true") -> str:
    """The studies with work as an SQL table `c`, in their turn.

    Args:
        counted: the condition under which a trial `r` counts for the turn.
        open_to: the condition under which a study `s` may serve the claim.
    """
    return f"""(
    SELECT s.*,
           EXISTS (SELECT FROM trimtab.trials q WHERE q.study_id = s.study_id AND q.state = 'queued'
                   AND q.not_before <= trimtab.now() AND (q.kind <> 'trial' OR NOT {WALL_TIME_OVER} AND {HAS_ROOM})) AS has_queued,
           s.state = 'active' AND s.trials_created < s.trials_limit AND NOT s.exhausted
               AND NOT {WALL_TIME_OVER} AND NOT {NO_PROGRESS} AND {HAS_ROOM} AS may_propose,
           {MAY_TAKE_UP} AS has_paused, {ONE_AT_A_TIME} AS one_at_a_time,
           (SELECT count(*) FROM trimtab.trials r
            WHERE r.study_id = s.study_id AND r.state = 'running' AND {counted}) AS running
    FROM trimtab.studies s
    WHERE s.state IN ('active', 'stopping', 'finalising') AND ({open_to}) AND (
        NOT {IS_PROBE} OR NOT EXISTS (
            SELECT FROM trimtab.trials p WHERE p.study_id = s.study_id AND p.state = 'running'))) c
WHERE c.has_queued OR c.may_propose OR c.has_paused
ORDER BY {TURN} LIMIT {MOST_STUDIES}"""


_ANY = Statement(f"SELECT EXISTS (SELECT FROM {studies_with_work()})")


def is_any(connection: Connection) -> bool:
    """Tell whether any study has work, for whichever worker."""
    return bool(_ANY.rows(connection)[0][0])


_BY_OTHERS = "r.worker_id IS DISTINCT FROM CAST(:beside_worker AS uuid)"
_NOT_SET_ASIDE = """NOT EXISTS (
            SELECT FROM trimtab.set_aside a WHERE a.study_id = s.study_id AND a.worker_id = CAST(:worker_id AS uuid))"""
_CANDIDATES = Statement(
    f"""SELECT c.study_id, c.name, c.trials_created, c.has_queued, c.may_propose, c.has_paused, c.one_at_a_time,
       CAST(c.running AS int), c.space_edits
FROM {studies_with_work(counted=_BY_OTHERS, open_to=f"{_NOT_SET_ASIDE} AND {FOR_CLAIMANT}")}"""
)


def candidates(
    connection: Connection,
    *,
    worker_id: UUID,
    beside_worker: UUID | None = None,
) -> list[Candidate]:
    """Studies with work: highest priority first, then fewest running trials, then oldest.

    Args:
        connection: one of `Database`.
        worker_id: the worker that claims; studies for which it is set aside, or too small, are left out.
        beside_worker: the worker whose running trials do not count, since it claims beside them.
    """
    rows = _CANDIDATES.rows(connection, worker_id=worker_id, beside_worker=beside_worker)
    return [Candidate(*row) for row in rows]
