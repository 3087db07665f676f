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
        if conduct is None or not tidying.fails_everything(
            conduct.newest, others_succeed=conduct.others_succeed
        ):
            return
        quarantined = workers.quarantine(connection, conduct.worker_id, conduct.leases)
    if quarantined:
        worker_id = str(conduct.worker_id)
        structlog.get_logger(__name__).warning("worker_quarantined", worker_id=worker_id)
