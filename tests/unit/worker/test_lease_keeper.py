import threading
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from trimtab.contract import problems
from trimtab.contract.leases import Answer
from worker.agent.events import LeaseRevoked, VerdictReceived
from worker.agent.lease_keeper import LeaseKeeper

TTL_S = 0.04


class Service:
    """Answers heartbeats from a list; the last answer stands for ever."""

    def __init__(self, *answers: Answer | problems.Problem) -> None:
        self.answers = list(answers)
        self.beats = 0
        self.changed = threading.Condition()

    def heartbeat(self, lease_id: UUID) -> Answer:
        with self.changed:
            self.beats += 1
            self.changed.notify_all()
            answer = self.answers[min(self.beats, len(self.answers)) - 1]
        if isinstance(answer, problems.Problem):
            raise answer
        return answer

    def wait_for(self, beats: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.beats >= beats, 10)


class Ears:
    """Collects what a keeper tells."""

    def __init__(self) -> None:
        self.heard: list[VerdictReceived | LeaseRevoked] = []
        self.something = threading.Event()

    def __call__(self, event: VerdictReceived | LeaseRevoked) -> None:
        self.heard.append(event)
        self.something.set()


def keeper(
    service: Service, ears: Ears, moves: Callable[[], bool] = lambda: True, ttl_s: float = TTL_S
) -> LeaseKeeper:
    return LeaseKeeper(service, uuid4(), ttl_s, ears, moves)


def test_a_worker_that_is_to_leave_is_told_so() -> None:
    service, ears, left = (
        Service(Answer(verdict="continue", ttl_s=TTL_S, draining=True)),
        Ears(),
        threading.Event(),
    )
    with LeaseKeeper(service, uuid4(), TTL_S, ears, lambda: True, left.set):
        assert left.wait(10)
    assert ears.heard == []


def test_a_trial_that_reports_all_the_time_is_asked_for_all_the_same() -> None:
    service, ears, ttl_s = Service(go_on(0.8)), Ears(), 0.8
    with keeper(service, ears, ttl_s=ttl_s) as kept:
        deadline = time.monotonic() + 5
        while not service.beats and time.monotonic() < deadline:
            kept.renewed(ttl_s)
            with service.changed:
                service.changed.wait(0.01)
    assert service.beats


def go_on(ttl_s: float = TTL_S) -> Answer:
    return Answer(verdict="continue", ttl_s=ttl_s)


def test_a_lease_is_renewed_again_and_again() -> None:
    service, ears = Service(go_on()), Ears()
    with keeper(service, ears):
        service.wait_for(5)
    assert ears.heard == []


def test_a_verdict_is_passed_on() -> None:
    service, ears = Service(Answer(verdict="pause", ttl_s=60)), Ears()
    with keeper(service, ears):
        assert ears.something.wait(10)
    (told,) = ears.heard
    assert isinstance(told, VerdictReceived)
    assert told.verdict == "pause"


@pytest.mark.parametrize(
    "refusal",
    [problems.LeaseLost(), problems.LeaseNotFound(), problems.StudyDeleted()],
    ids=lambda problem: type(problem).__name__,
)
def test_a_lost_lease_is_told_once_and_not_asked_for_again(refusal: problems.Problem) -> None:
    service, ears = Service(refusal), Ears()
    kept = keeper(service, ears)
    with kept:
        assert ears.something.wait(10)
        kept.join(30)
    assert service.beats == 1
    (lost,) = ears.heard
    assert isinstance(lost, LeaseRevoked)


@pytest.mark.parametrize(
    "trouble",
    [
        problems.Unreachable(),
        problems.Unavailable(),
        problems.Problem(),
        problems.Unauthorized(),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_trouble_that_may_pass_never_ends_a_lease(trouble: problems.Problem) -> None:
    service, ears = Service(trouble, trouble, go_on()), Ears()
    with keeper(service, ears):
        service.wait_for(4)
    assert ears.heard == []


def test_no_heartbeat_is_sent_for_a_trial_that_does_not_move() -> None:
    service, ears = Service(go_on()), Ears()
    asked = threading.Event()

    def moves() -> bool:
        asked.set()
        return False

    with keeper(service, ears, moves):
        assert asked.wait(10)
    assert service.beats == 0


def test_a_report_puts_the_next_heartbeat_off() -> None:
    service, ears = Service(go_on()), Ears()
    kept = keeper(service, ears, ttl_s=3600)
    kept.renewed(TTL_S)
    with kept:
        service.wait_for(1)
        kept.renewed(3600)
    assert ears.heard == []


def test_a_lease_is_renewed_at_a_quarter_of_its_ttl() -> None:
    kept = keeper(Service(go_on()), Ears(), ttl_s=6000)
    assert 1300 < kept.seconds_left() <= 1650
