"""What a trial's row keeps of its curve."""

import threading
from pathlib import Path

import pytest

from service.storage import reports
from service.storage.engine import Database
from service.storage.reports import NewReports
from tests.support.protocol import Service
from tests.support.until import until
from trimtab.contract.leases import Completed, Outcome, Pruned, Report

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()"""


@pytest.mark.parametrize("outcome", [Completed(value=0.2), Pruned()])
def test_a_report_that_is_being_stored_when_the_outcome_comes_is_in_the_curve(
    database: Database, tmp_path: Path, outcome: Outcome
) -> None:
    service = Service.on(database, tmp_path)
    service.study()
    lease = service.lease()
    service.report(lease, 0.1)
    late = NewReports(lease.lease_id, (Report(step=1, value=0.2),), "continue")
    settling = threading.Thread(target=service.settle, args=(lease, outcome))
    with database.transaction() as connection:
        reports.store_all(connection, [late])
        settling.start()
        until(lambda: service.value(WAITING) == 1)
    settling.join()
    assert service.value("SELECT curve FROM trimtab.trials") == [[0, 0.1], [1, 0.2]]
    assert service.value("SELECT value FROM public.trial_values") == 0.2
