"""A service whose database was put back to an earlier day, while its workers went on."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from service.storage import engine
from service.use_cases import leases
from tests.support.contexts import a_context
from tests.support.protocol import Service
from trimtab.contract.leases import Completed
from trimtab.contract.problems import LeaseLost, LeaseNotFound

TRIALS = 4


@contextmanager
def a_service(url: str, folder: Path, before: Service | None = None) -> Generator[Service]:
    """A service on this database, whose clock stands where the one before left it."""
    database = engine.connect(url)
    try:
        if before is None:
            yield Service.on(database, folder)
        else:
            yield Service(a_context(database, folder), before.clock)
    finally:
        database.dispose()


def copy_of(url: str) -> str:
    """A copy of the database as it is now."""
    parsed = engine.normalised(url)
    admin = engine.connect(
        parsed.set(database="postgres").render_as_string(hide_password=False)
    )
    with admin.statements() as connection:
        connection.execute(
            text(f"CREATE DATABASE {parsed.database}_backup TEMPLATE {parsed.database}")
        )
    admin.dispose()
    backup = parsed.set(database=f"{parsed.database}_backup")
    return backup.render_as_string(hide_password=False)


def test_what_was_begun_after_the_backup_is_refused_and_the_budget_stays_exact(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    url = new_database()
    with a_service(url, tmp_path) as service:
        service.study(budget={"trials": TRIALS})
        service.complete(service.lease(), 0.5)
        held = service.lease()
    backup = copy_of(url)
    with a_service(url, tmp_path, service) as service:
        later = service.lease()
    with a_service(backup, tmp_path, service) as restored:
        with pytest.raises((LeaseNotFound, LeaseLost)):
            leases.settle(restored.context, later.lease_id, Completed(value=0.9))
        assert restored.complete(held, 0.6) == "completed"
        while (lease := restored.lease()).kind == "trial":
            restored.complete(lease, 0.1)
        assert lease.trial_number == held.trial_number
        numbers = restored.rows("SELECT number FROM public.trials ORDER BY number")
        assert [row[0] for row in numbers] == list(range(TRIALS))
