"""Workers: registered by themselves, listed for people."""

from dataclasses import asdict

from service.storage import workers
from service.use_cases.context import Context
from trimtab.contract.workers import Registration, Worker, Workers


def register(context: Context, registration: Registration) -> Worker:
    """Give a new worker process its id."""
    with context.database.statements() as connection:
        return Worker(**asdict(workers.insert(connection, registration)))


def newest(context: Context) -> Workers:
    """Workers, the last registered first."""
    with context.database.statements() as connection:
        rows = workers.newest(connection)
    return Workers(workers=tuple(Worker(**asdict(row)) for row in rows))
