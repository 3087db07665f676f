"""Reports of new steps by holders that are known here, in studies that go on."""

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg2

from service.batching import Batcher
from service.domain import decisions, leasing
from service.sampling import GO_ON, Judgement, SamplingFailed, decides_at
from service.storage.async_connection import AsyncConnection
from service.storage.engine import Locked
from service.storage.reports import REPORT, NewReports, to_store
from service.use_cases.context import Context, Holder
from trimtab.contract.leases import Answer, Report, Reports, Verdict
from trimtab.contract.studies import StudyDocument


class FastReports:
    """Stores the reports of many holders with one statement.

    The pruner judges before that, on what this process knows of the trial and of its study. Whether it knew all of it is
    a condition of the statement, which stores nothing of a holder otherwise.

    Args:
        context: the rooms below.
        connection: no other verb uses it.
        aside: runs a function with its arguments in a thread.
    """

    def __init__(
        self,
        context: Context,
        connection: AsyncConnection,
        aside: Callable[..., Awaitable[Any]],
    ) -> None:
        self._context = context
        self._connection = connection
        self._aside = aside
        self._storing = Batcher(self._store)

    async def report(self, lease_id: UUID, batch: Reports) -> Answer | None:
        """Do as `leases.report`; None: the reports have to take the full path."""
        before = self._context.holders.known(lease_id)
        document = before and self._context.documents.known(before.study_id)
        if before is None or document is None or not _are_new(before, batch.reports):
            return None
        if _is_due(document, before, batch.reports[-1]):
            return None  # it is decided on all trials of the study
        if document.budget.limits:
            return None  # which depend on what others report at this moment
        then = _after(before, batch.reports)
        try:
            judgement = await self._judge(document, then)
        except SamplingFailed:
            return None  # the full path sets the study aside, and keeps the report
        # Nobody has looked: the statement stores this verdict only if the trial is wanted, as is assumed here.
        verdict = leasing.verdict(leasing.WANTED, prune=judgement.stop)
        new = NewReports(
            lease_id,
            batch.reports,
            verdict,
            known=before.reported,
            reason=judgement.reason,
            space_edits=len(document.space_edits),
        )
        if not await self._storing.submit(new):
            return None
        self._context.holders.note(lease_id, then)
        return _answer(verdict, document.lease_ttl_s)

    async def _judge(self, document: StudyDocument, holder: Holder) -> Judgement:
        if not document.search.prunes:
            return GO_ON
        sampling, curve = self._context.sampling, tuple(sorted(holder.curve.items()))
        asked = (holder.study_id, document, holder.number, curve, holder.epochs)
        judged = sampling.prune_at_once(*asked)
        return await self._aside(sampling.prune, *asked) if judged is None else judged

    async def _store(self, new: Sequence[NewReports]) -> list[bool]:
        """Tell of each whether it was stored; of two batches of one lease only the earlier one is."""
        first = {one.lease_id: one for one in reversed(new)}
        try:
            rows = await self._connection.rows(REPORT, **to_store(list(first.values())))
        except (psycopg2.IntegrityError, Locked):
            return [False] * len(new)
        kept = {row[0] for row in rows}
        return [one.lease_id in kept and first[one.lease_id] is one for one in new]


@lru_cache(maxsize=1024)
def _answer(verdict: Verdict, ttl_s: float) -> Answer:
    return Answer(verdict=verdict, ttl_s=ttl_s)


def _are_new(holder: Holder, reports: Sequence[Report]) -> bool:
    steps = [holder.last_step, *(report.step for report in reports)]
    return all(before < after for before, after in pairwise(steps))


def _after(holder: Holder, reports: Sequence[Report]) -> Holder:
    """What is known of the holder once these reports of it are stored."""
    return Holder(
        holder.study_id,
        holder.number,
        reports[-1].step,
        holder.reported + len(reports),
        {**holder.curve, **{report.step: report.value for report in reports}},
        holder.epochs,
        runs_until=holder.runs_until,
    )


def _is_due(document: StudyDocument, holder: Holder, last: Report) -> bool:
    return decisions.is_due(
        last.step,
        last.value,
        holder.runs_until,
        schedules=document.search.schedules,
        decides_here=decides_at(document, last.step + 1),
    )
