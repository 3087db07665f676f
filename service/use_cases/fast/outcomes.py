"""Outcomes that end a trial for good, whatever became of its study meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg2

from service.batching import Batcher
from service.domain import leasing
from service.storage.async_connection import AsyncConnection
from service.storage.engine import Locked
from service.storage.leases import HOLD, LEAVE
from service.storage.outcomes import Leaving, to_leave
from service.storage.studies import HOW_ENDED, Ended
from service.use_cases.leases import measured, outcome_sha256, validation_outputs
from trimtab.contract.leases import Infeasible, Outcome, Settled


@dataclass(frozen=True, slots=True)
class Answered:
    """The holder's answer, and the study whose state has to follow, if any."""

    settled: Settled
    to_follow: str | None


class FastOutcomes:
    """Ends the leases of many holders with one commit.

    Args:
        connection: no other verb uses it.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._storing = Batcher(self._store)

    async def settle(self, lease: UUID, outcome: Outcome) -> Answered | None:
        """Do as `leases.settle`; None: the outcome has to take the full path."""
        # Of one that was not trained the study says why.
        if isinstance(outcome, Infeasible) or not leasing.depends_on_outcome_alone(outcome):
            return None
        departure = leasing.settled_for_good(outcome)
        leaving = Leaving(
            lease,
            departure,
            "trial",
            outcome_sha256(outcome),
            validation_outputs(outcome),
            measured(outcome),
        )
        return await self._storing.submit(leaving)

    async def _store(self, leaving: Sequence[Leaving]) -> list[Answered | None]:
        """End the trials' leases; None for each lease of no trial, or that is not held any more."""
        first = {one.lease_id: one for one in reversed(leaving)}
        try:
            rows = await self._connection.rows(
                HOLD,
                LEAVE,
                HOW_ENDED,
                committed=2,
                **to_leave(list(first.values()), only_trials=True),
            )
        except (psycopg2.IntegrityError, Locked):
            return [None] * len(leaving)
        ended = {row[0]: Ended(*row) for row in rows}
        return [_answer(ended.get(one.lease_id), one) for one in leaving]


def _answer(ended: Ended | None, leaving: Leaving) -> Answered | None:
    """Read the answer from what is stored: a repeated outcome is answered as the first was."""
    if ended is None or ended.became is None:
        return None
    if ended.outcome_sha256 != leaving.outcome_sha256:
        return None
    to_follow = ended.study_name if ended.study_must_follow else None
    return Answered(Settled(state=ended.became), to_follow)
