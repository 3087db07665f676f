"""Claims, one id each until it has got a lease."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from tests.support.leases import a_lease
from trimtab.contract import problems
from trimtab.contract.leases import Lease, LeaseRequest, Leases, Release
from worker.agent.claimer import Claimer
from worker.agent.events import EventQueue

LEASE = a_lease()
NOTHING = Leases(leases=())
SOMETHING = Leases(leases=(LEASE,))


class Service:
    """Answers claims as it was told to, and keeps their ids."""

    def __init__(self, *answers: Leases | problems.Problem) -> None:
        self.answers = list(answers)
        self.asked: list[UUID] = []
        self.released: list[UUID] = []

    def claim(self, request: LeaseRequest, /) -> Leases:
        self.asked.append(request.claim_id)
        answer = self.answers.pop(0)
        if isinstance(answer, problems.Problem):
            raise answer
        return answer

    def release(self, lease_id: UUID, release: Release, /) -> None:
        assert release.reason == "drain"
        self.released.append(lease_id)


def claims(*answers: Leases | problems.Problem) -> tuple[list[UUID], Sequence[Lease | None]]:
    """The ids of so many claims, and what each got."""
    service = Service(*answers)
    claimer = Claimer(service, EventQueue(), lambda event: None)
    got = [claimer.claim(uuid4(), 0.0) for _ in answers]
    assert not service.released
    return service.asked, got


def test_a_claim_keeps_its_id_until_it_has_got_a_lease() -> None:
    asked, got = claims(NOTHING, NOTHING, SOMETHING, NOTHING)
    assert got == [None, None, LEASE, None]
    assert asked[0] == asked[1] == asked[2] != asked[3]


def test_a_claim_whose_lease_is_over_already_is_followed_by_another() -> None:
    asked, got = claims(problems.LeaseLost(), SOMETHING)
    assert got == [None, LEASE]
    assert asked[0] != asked[1]


def test_a_claim_that_found_no_service_is_repeated() -> None:
    service = Service(problems.Unreachable("away"), SOMETHING)
    claimer = Claimer(service, EventQueue(), lambda event: None)
    with pytest.raises(problems.Unreachable):
        claimer.claim(uuid4(), 0.0)
    assert claimer.claim(uuid4(), 0.0) == LEASE
    assert service.asked[0] == service.asked[1]


def test_what_a_claim_got_whose_answer_never_came_is_given_back_once() -> None:
    service = Service(problems.Unreachable("away"), problems.Unavailable(), SOMETHING, NOTHING)
    claimer = Claimer(service, EventQueue(), lambda event: None)
    with pytest.raises(problems.Unreachable):
        claimer.claim(uuid4(), 0.0)
    with pytest.raises(problems.Unavailable):
        claimer.forgo()
    claimer.forgo()
    claimer.forgo()
    assert service.released == [LEASE.lease_id]
    assert claimer.claim(uuid4(), 0.0) is None
    assert service.asked[0] == service.asked[1] == service.asked[2] != service.asked[3]


def test_a_claim_of_a_worker_that_is_unknown_meanwhile_is_not_asked_about_again() -> None:
    service = Service(problems.Unreachable("away"), problems.WorkerNotFound())
    claimer = Claimer(service, EventQueue(), lambda event: None)
    with pytest.raises(problems.Unreachable):
        claimer.claim(uuid4(), 0.0)
    claimer.forgo()
    claimer.forgo()
    assert len(service.asked) == 2
