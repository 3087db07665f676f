"""Outcomes that end a trial for good, whatever became of its study meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg2

from service.domain import leasing
from service.storage.engine import Locked
from service.storage.lane import Lane
from service.storage.leases import HOLD, LEAVE, Leaving, to_leave
from service.storage.studies import HOW_ENDED, Ended
from service.use_cases.leases import outcome_sha256
from trimtab.contract.leases import Failed, Outcome, Settled

Said = tuple[UUID, Outcome]
"""A lease, and how its holder says that it ended."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The holder's answer, and the study whose state has to follow, if any."""

    settled: Settled
    to_follow: str | None


def is_ordinary(outcome: Outcome) -> bool:
    """Whether what becomes of a trial depends on the outcome alone."""
    return not (isinstance(outcome, Failed) and outcome.retryable)


async def settle(lane: Lane, said: Sequence[Said]) -> list[Answered | None]:
    """End the trials' leases; None for each that must go the whole way: no trial, or not held any more."""
    leaving = [_leaving(lease, outcome) for lease, outcome in said]
    first = {one.lease_id: one for one in reversed(leaving)}
    try:
        rows = await lane.rows(
            HOLD,
            LEAVE,
            HOW_ENDED,
            committed=2,
            **to_leave(list(first.values()), only_trials=True),
        )
    except (psycopg2.IntegrityError, Locked):
        return [None] * len(said)
    ended = {row[0]: Ended(*row) for row in rows}
    return [_answer(ended.get(one.lease_id), one) for one in leaving]


def _leaving(lease: UUID, outcome: Outcome) -> Leaving:
    departure = leasing.settled_for_good(outcome)
    return Leaving(lease, departure, "trial", outcome_sha256(outcome))


def _answer(ended: Ended | None, leaving: Leaving) -> Answered | None:
    """What is stored says it: settled now or before, a repeat is answered as the first was."""
    if ended is None or ended.became is None:
        return None
    if ended.outcome_sha256 != leaving.outcome_sha256:
        return None
    to_follow = ended.study_name if ended.study_must_follow else None
    return Answered(Settled(state=ended.became), to_follow)
