"""The record of an attempt: fenced by its lease; a final lease's says in the log that the test split was opened."""

import pytest

from service.use_cases import records, trials
from tests.support.protocol import Service
from tests.support.records import a_record
from trimtab.contract.leases import Lease
from trimtab.contract.problems import LeaseLost


def _kept(service: Service) -> int | None:
    record = trials.read(service.context, "digits", 0).record
    return None if record is None else record.labels_used


def _tell(service: Service, lease: Lease, labels_used: int = 1) -> None:
    records.store(service.context, lease.lease_id, a_record(labels_used=labels_used))


def test_a_late_record_of_a_lost_lease_leaves_no_trace(service: Service) -> None:
    service.study(budget={"trials": 1})
    lost = service.lease()
    _tell(service, lost, 1)
    service.expire()
    service.clock.advance(300)
    _tell(service, service.lease(), 2)
    with pytest.raises(LeaseLost):
        _tell(service, lost, 3)
    assert _kept(service) == 2


def test_a_record_renews_no_lease(service: Service) -> None:
    service.study()
    lease = service.lease()
    service.clock.advance(59)
    _tell(service, lease)
    service.clock.advance(2)
    assert service.sweep() == 1


def test_the_log_says_once_an_attempt_that_the_test_split_was_opened(service: Service) -> None:
    service.study(budget={"trials": 1})
    trial = service.lease()
    _tell(service, trial)
    service.complete(trial, 0.5)
    for fence in (1, 2):
        final = service.lease()
        assert (final.kind, final.fence) == ("final", fence)
        _tell(service, final)
        _tell(service, final)
        if fence == 1:
            service.drain(final)
    events = service.rows(
        "SELECT kind, fence, body FROM trimtab.events WHERE kind LIKE 'final%' ORDER BY id"
    )
    assert [(event.kind, event.fence) for event in events] == [
        ("final_queued", 0),
        ("final_started", 1),
        ("final_test_opened", 1),
        ("final_queued", 1),
        ("final_started", 2),
        ("final_test_opened", 2),
    ]
    assert events[2].body == {"data_sha256": "d" * 64, "split_sha256": "5" * 64, "pictures": 20}
    assert _kept(service) == 1
