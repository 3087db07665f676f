"""What a worker found when it began: kept with the trial, and held against the data that its study began with."""

from uuid import UUID

from service.domain import data, leasing
from service.storage import leases, records, set_aside
from service.use_cases import ending, studies, transfer
from service.use_cases.context import Context
from service.use_cases.holding import live
from trimtab.contract.problems import Conflict, DataChanged
from trimtab.contract.records import StudyData, TrialRecord


def store(context: Context, lease_id: UUID, record: TrialRecord) -> None:
    """Keep what the holder of a lease found; of an attempt's words the last one counts.

    The first record of a study tells its data: that is what its probe passes with, and what earlier studies are held
    against whose configurations it is to begin with.

    Raises:
        LeaseNotFound, LeaseLost: the caller does not hold this lease.
        Conflict: its study is external.
        DataChanged: its data is not the study's. The lease has ended without a crash, and its worker is set aside.
    """
    with context.database.statements() as connection:
        if records.store(connection, lease_id, record):
            return
    problem = _settle_data(context, lease_id, record.data)
    if problem is not None:
        raise DataChanged(problem)
    with context.database.statements() as connection:
        if not records.store(connection, lease_id, record):
            live(leases.read(connection, lease_id))


def _settle_data(context: Context, lease_id: UUID, found: StudyData) -> str | None:
    """Give the study its data if it has none; else end the lease if they differ, and return what does."""
    with context.database.transaction() as connection:
        facts = live(leases.read(connection, lease_id))
        if studies.document(context, facts.study_id, connection).is_external:
            raise Conflict(
                "An external study has no data that workers could compare: its loops tell no record."
            )
        known = records.lock_data(connection, lease_id, facts.study_id)
        if known is None:
            records.set_data(connection, lease_id, found)
            transfer.settle(context, connection, facts.study_id, found)
        if known is None or known.is_same(found):
            return None
        problem = data.told(facts.study_name, known, found)
        departure = leasing.set_aside(facts.held, problem)
        if not leases.leave(connection, lease_id, departure, facts.held.kind):
            live(leases.read(connection, lease_id))
        set_aside.add(connection, lease_id, problem)
    context.holders.forget(lease_id)
    ending.follow(context, facts.study_name)
    return problem
