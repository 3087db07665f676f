"""Quarantine: a worker that fails everything gets nothing more, and its trials do not pay for it."""

from uuid import UUID

import structlog

from service.domain import tidying
from service.storage import workers
from service.use_cases.context import Context


def judge(context: Context, lease_id: UUID) -> None:
    """Look at the worker whose lease has just ended in a crash."""
    with context.database.transaction() as connection:
        conduct = workers.conduct(connection, lease_id, tidying.CRASHES_OF_A_BAD_WORKER)
        if conduct is None:
            return
        crashes = tidying.crashes_in_a_row(conduct.newest)
        if not tidying.fails_everything(
            crashes, others_succeeded_at=conduct.others_succeeded_at
        ):
            return
        refunded = [crash.lease_id for crash in crashes]
        quarantined = workers.quarantine(connection, conduct.worker_id, refunded)
    if quarantined:
        worker_id = str(conduct.worker_id)
        structlog.get_logger(__name__).warning("worker_quarantined", worker_id=worker_id)
