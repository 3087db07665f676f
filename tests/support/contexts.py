"""A service without HTTP: the use cases over a real database."""

from pathlib import Path
from uuid import UUID

from service.domain.facts import Changes, Cursor
from service.sampling import Sampling
from service.storage import history, workers
from service.storage.artifacts import Folder
from service.storage.engine import Database
from service.use_cases.context import Context
from trimtab.contract.workers import Registration


def a_context(database: Database, artifacts: Path) -> Context:
    """Assemble the use cases as the app does; a history is read again when it has changed, never by the clock."""

    def read(study_id: int, cursor: Cursor | None) -> Changes:
        with database.statements() as connection:
            return history.changes(connection, study_id, cursor)

    return Context(database, Sampling(read, lambda: 0.0), Folder(artifacts))


def a_worker(
    context: Context,
    *,
    label: str = "tester",
    capacity: int = 1,
    device: str = "cpu",
    memory_bytes: int | None = None,
    devices: int = 1,
) -> UUID:
    """Register a worker and return its id."""
    registration = Registration(
        label=label,
        device=device,
        capacity=capacity,
        memory_bytes=memory_bytes,
        devices=devices,
    )
    with context.database.statements() as connection:
        return workers.insert(connection, registration).worker_id
