"""What a worker found when it began: kept with the trial."""

from uuid import UUID

from service.storage import leases, records
from service.use_cases.context import Context
from service.use_cases.holding import refuse
from trimtab.contract.records import TrialRecord


def store(context: Context, lease_id: UUID, record: TrialRecord) -> None:
    """Keep what the holder of a lease found; of an attempt's words the last one counts.

    Raises:
        LeaseNotFound, LeaseLost: the caller does not hold this lease.
    """
    with context.database.statements() as connection:
        if records.store(connection, lease_id, record):
            return
        refuse(leases.read(connection, lease_id))
