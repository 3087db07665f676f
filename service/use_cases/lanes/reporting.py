"""Reports of trials that nothing can stop: no pruner looks at them, and their study goes on."""

from collections.abc import Sequence
from itertools import pairwise
from uuid import UUID

import psycopg2

from service.storage.engine import Locked
from service.storage.lane import Lane
from service.storage.reports import REPORT, NewReports, to_store
from service.use_cases.context import Context
from service.use_cases.reports import Said
from trimtab.contract.leases import Answer, Reports


def is_ordinary(context: Context, lease_id: UUID, batch: Reports) -> bool:
    """Whether the batch has only new steps of a lease that is known here, in a study without a pruner."""
    known = context.holders.known(lease_id)
    document = None if known is None else context.documents.known(known[0])
    if known is None or document is None or document.search.pruner != "none":
        return False
    steps = [known[1], *(report.step for report in batch.reports)]
    return all(before < after for before, after in pairwise(steps))


async def report(context: Context, lane: Lane, said: Sequence[Said]) -> list[Answer | None]:
    """Store what ordinary holders report; None for each that must go the whole way."""
    first = dict(reversed(said))  # of two batches of one lease the earlier one
    new = [NewReports(lease, batch.reports, "continue") for lease, batch in first.items()]
    try:
        rows = await lane.rows(REPORT, **to_store(new, only_wanted=True))
    except (psycopg2.IntegrityError, Locked):
        return [None] * len(said)
    kept = {row[0] for row in rows}
    return [
        _kept(context, lease, batch) if lease in kept and first[lease] is batch else None
        for lease, batch in said
    ]


def _kept(context: Context, lease: UUID, batch: Reports) -> Answer | None:
    known = context.holders.known(lease)
    document = None if known is None else context.documents.known(known[0])
    if known is None or document is None:
        return None  # forgotten meanwhile: the whole way finds it stored
    context.holders.note(lease, known[0], batch.reports[-1].step)
    return Answer(verdict="continue", ttl_s=document.lease_ttl_s)
