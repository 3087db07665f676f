"""The door of the package: each verb takes the fast path if it can, else the full path."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import UUID

from service.batching import Batcher
from service.storage.async_connection import AsyncConnection
from service.use_cases import claims, ending, leases, reports
from service.use_cases.context import Context
from service.use_cases.fast.claims import FastClaims, NothingToDo, Served, TakeFullPath
from service.use_cases.fast.outcomes import FastOutcomes
from service.use_cases.fast.reports import FastReports
from service.use_cases.reports import Said
from trimtab.contract.external_leases import ExternalLeases
from trimtab.contract.leases import Answer, LeaseRequest, Leases, Outcome, Reports, Settled
from trimtab.contract.problems import Problem, TooManyPoints

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 16
MOST_REPORTS = 1000


class FastPath:
    """The verbs of lease holders on the event loop; callers of one verb that wait are served together."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # One connection for each kind of statement: a report never waits for a claim's statement.
        self.connections = [AsyncConnection(context.database) for _ in range(4)]
        report, settle, look, store = self.connections
        self._reports = FastReports(context, report, self._aside)
        self._outcomes = FastOutcomes(settle)
        self._claims = FastClaims(context, look, store, self._propose)
        self._full_reports = Batcher(self._report_all)
        self._claiming = ThreadPoolExecutor(THREADS, thread_name_prefix="claiming")
        self._others = ThreadPoolExecutor(THREADS, thread_name_prefix="full-path")

    async def report(self, lease_id: UUID, batch: Reports) -> Answer:
        """Do as `leases.report`.

        Raises:
            TooManyPoints: the batch has more than `MOST_REPORTS` reports; nothing was stored.
        """
        if len(batch.reports) > MOST_REPORTS:
            raise TooManyPoints
        answer = await self._reports.report(lease_id, batch)
        return answer or await self._full_reports.submit((lease_id, batch))

    async def settle(self, lease_id: UUID, outcome: Outcome) -> Settled:
        """Do as `leases.settle`."""
        self._context.holders.forget(lease_id)
        answered = await self._outcomes.settle(lease_id, outcome)
        if answered is None:
            return await self._aside(leases.settle, self._context, lease_id, outcome)
        if answered.to_follow is not None:
            await self._aside(ending.follow, self._context, answered.to_follow)
        return answered.settled

    async def claim(self, request: LeaseRequest) -> Leases | ExternalLeases:
        """Do as `claims.claim`."""
        match await self._claims.claim(request):
            case Served(got):
                return got
            case NothingToDo():
                return Leases(leases=())
            case TakeFullPath():
                return await self._propose(partial(claims.claim, self._context, request))

    def close(self) -> None:
        """Close the connections."""
        for connection in self.connections:
            connection.close()
        self._claiming.shutdown(wait=False)
        self._others.shutdown(wait=False)

    async def _report_all(self, said: Sequence[Said]) -> Sequence[Answer | Problem]:
        return await self._aside(reports.report_all, self._context, said)

    async def _propose(self, verb: Callable[[], T]) -> T:
        """Run what waits for a sampler in a thread, of which the other verbs have their own."""
        return await asyncio.get_running_loop().run_in_executor(self._claiming, verb)

    async def _aside(self, verb: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Run what waits for the database in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._others, partial(verb, *given, **named))
