"""A worker that is asked to leave gets nothing more, and hears of it wherever it asks."""

from uuid import uuid4

import pytest

from service.use_cases import leases, workers
from tests.support.bell import listening
from tests.support.protocol import Service
from trimtab.contract.problems import WorkerDraining, WorkerNotFound


def state_of(service: Service) -> list[str]:
    return [worker.state for worker in workers.newest(service.context).workers]


def test_a_worker_that_was_asked_to_leave_gets_no_more_trials(either: Service) -> None:
    either.study()
    one = either.worker()
    assert either.ask_to_leave(one) == "draining"
    with pytest.raises(WorkerDraining):
        either.claim(one)
    assert either.ask_to_leave(one) == "draining"
    assert either.lease().trial_number == 0


def test_a_holder_hears_by_its_heartbeat_that_it_is_to_leave(either: Service) -> None:
    either.study()
    one = either.worker()
    lease = either.lease(one)
    assert not leases.heartbeat(either.context, lease.lease_id).draining
    either.ask_to_leave(one)
    answer = leases.heartbeat(either.context, lease.lease_id)
    assert (answer.verdict, answer.draining) == ("continue", True)
    # It may still say what it has done, and finish.
    assert either.report(lease, 0.5) == "continue"
    either.drain(lease)
    assert either.lease().trial_number == lease.trial_number


def test_what_a_claim_got_whose_answer_was_lost_is_told_to_be_given_back(
    either: Service,
) -> None:
    either.study()
    one, claim_id = either.worker(capacity=2), uuid4()
    (got,) = either.claim(one, claim_id=claim_id)
    either.ask_to_leave(one)
    (again,) = either.claim(one, claim_id=claim_id, capacity=2)
    assert again.lease_id == got.lease_id
    with pytest.raises(WorkerDraining):
        either.claim(one)


def test_a_worker_that_waits_is_woken(service: Service) -> None:
    one = service.worker()
    with listening(service) as rings:
        service.ask_to_leave(one)
        assert rings() == 1
        service.ask_to_leave(one)
        assert rings() == 0


def test_a_worker_in_quarantine_stays_there(service: Service) -> None:
    one = service.worker()
    service.rows("UPDATE trimtab.workers SET state = 'quarantined' RETURNING 1")
    assert service.ask_to_leave(one) == "quarantined"


def test_a_worker_that_has_left_is_listed_as_gone(service: Service) -> None:
    service.ask_to_leave(service.worker())
    assert state_of(service) == ["draining"]
    service.clock.advance(301)
    assert state_of(service) == ["gone"]


def test_an_unknown_worker_is_told(service: Service) -> None:
    with pytest.raises(WorkerNotFound):
        service.ask_to_leave(uuid4())


def test_a_loop_of_a_persons_own_gets_no_more_either(either: Service) -> None:
    name = either.external()
    loop = either.own_loop(name)
    (lease,) = either.claim_external(loop)
    either.complete(lease, 0.5)
    either.ask_to_leave(loop)
    with pytest.raises(WorkerDraining):
        either.claim_external(loop)
