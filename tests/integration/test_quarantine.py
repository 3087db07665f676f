"""A worker that fails everything, on a real Postgres."""

from pathlib import Path
from uuid import UUID

import pytest

from service.storage.engine import Database
from service.use_cases import leases
from tests.support.protocol import Service
from trimtab.contract.leases import Lease
from trimtab.contract.problems import WorkerQuarantined


@pytest.fixture
def service(database: Database, tmp_path: Path) -> Service:
    playing = Service.on(database, tmp_path)
    playing.study(budget={"trials": 20})
    return playing


def crash(service: Service, worker: UUID) -> Lease:
    lease = service.lease(worker)
    service.fail(lease, retryable=True)
    return lease


def succeed(service: Service) -> None:
    service.complete(service.lease(), 0.5)


def crashes(service: Service) -> list[int]:
    return [
        row[0] for row in service.rows("SELECT crashes FROM trimtab.trials ORDER BY number")
    ]


def state(service: Service, worker: UUID) -> str:
    return service.value("SELECT state FROM trimtab.workers WHERE worker_id = :id", id=worker)


def test_it_gets_nothing_more_and_its_trials_do_not_pay(service: Service) -> None:
    bad = service.worker()
    crash(service, bad)
    crash(service, bad)
    succeed(service)
    crash(service, bad)
    assert state(service, bad) == "quarantined"
    assert crashes(service) == [0, 0, 0, 0]
    with pytest.raises(WorkerQuarantined):
        service.claim(bad)
    assert service.lease().trial_number == 0  # at once, without a back-off
    told = service.rows("SELECT trial_number FROM trimtab.events WHERE kind = 'crash_refunded'")
    assert sorted(row[0] for row in told) == [0, 1, 3]


def test_where_nobody_succeeds_it_may_be_the_study(service: Service) -> None:
    bad = service.worker()
    for _ in range(3):
        crash(service, bad)
    assert state(service, bad) == "alive"
    assert crashes(service) == [1, 1, 1]


def test_silence_counts_like_a_crash(service: Service) -> None:
    bad = service.worker()
    for _ in range(3):
        service.lease(bad)
        assert service.expire() == 1
        succeed(service)
    assert state(service, bad) == "quarantined"


def test_a_training_process_that_falls_with_many_trials_falls_once(service: Service) -> None:
    bad = service.worker(capacity=4)
    for fall in range(3):
        assert state(service, bad) == "alive"
        held = [service.lease(bad) for _ in range(4 if fall == 0 else 1)]
        service.clock.advance(1)
        for lease in held:
            service.fail(lease, retryable=True)
        succeed(service)
    assert state(service, bad) == "quarantined"
    assert set(crashes(service)) == {0}


def test_what_it_still_holds_is_kept_no_longer(service: Service) -> None:
    bad = service.worker(capacity=2)
    held = service.lease(bad)
    succeed(service)
    for _ in range(3):
        crash(service, bad)
    assert state(service, bad) == "quarantined"
    with pytest.raises(WorkerQuarantined):
        leases.heartbeat(service.context, held.lease_id)
    assert service.expire() == 1


def test_a_trial_that_has_ended_stays_as_it_is(service: Service) -> None:
    service.study("strict", priority=1000, max_crashes=1, budget={"trials": 1})
    bad = service.worker()
    crash(service, bad)  # of `strict`: given up at once
    crash(service, bad)
    succeed(service)
    crash(service, bad)
    assert state(service, bad) == "quarantined"
    ended = service.rows(
        "SELECT state, crashes FROM trimtab.trials WHERE error_kind = 'poison'"
    )
    assert [tuple(row) for row in ended] == [("failed", 1)]
