"""Workers: registered by themselves, listed for people."""

from dataclasses import asdict
from uuid import UUID

from sqlalchemy import Connection

from service.storage import studies, workers
from service.use_cases.context import Context
from trimtab.contract.problems import NotExternal, StudyNotFound, WorkerNotFound
from trimtab.contract.workers import Registration, Worker, Workers


def register(context: Context, registration: Registration) -> Worker:
    """Give a new worker process, or a loop of a person's own, its id.

    Raises:
        StudyNotFound: there is no study that the loop names.
        NotExternal: trimtab's workers train it.
    """
    with context.database.statements() as connection:
        study_id = _external(context, connection, registration.study)
        return Worker(**asdict(workers.insert(connection, registration, study_id)))


def _external(context: Context, connection: Connection, name: str | None) -> int | None:
    if name is None:
        return None
    row = studies.by_name(connection, name)
    if row is None:
        raise StudyNotFound(f"There is no study named {name!r}.")
    if not context.documents.of(row.study_id, row.document).is_external:
        raise NotExternal
    return row.study_id


def drain(context: Context, worker_id: UUID) -> Worker:
    """Ask a worker to give back what it has, and to leave; it gets no more leases. A repeat changes nothing.

    Raises:
        WorkerNotFound: there is no such worker.
    """
    with context.database.transaction() as connection:
        row = workers.drain(connection, worker_id)
    if row is None:
        raise WorkerNotFound
    return Worker(**asdict(row))


def newest(context: Context) -> Workers:
    """Workers, the last registered first."""
    with context.database.statements() as connection:
        rows = workers.newest(connection)
    return Workers(workers=tuple(Worker(**asdict(row)) for row in rows))
