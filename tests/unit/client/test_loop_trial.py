"""A trial in a training loop of one's own, against a service that is played: what no real one does on demand."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from trimtab.client.loop_keeper import LoopKeeper
from trimtab.client.loop_trial import LoopTrial
from trimtab.client.worker_verbs import WorkerVerbs
from trimtab.contract import problems
from trimtab.contract.external import ExternalTask
from trimtab.contract.external_leases import ExternalLease
from trimtab.contract.leases import (
    Answer,
    Checkpoint,
    Completed,
    Outcome,
    Release,
    Reports,
    Settled,
    Verdict,
)
from trimtab.contract.problems import LeaseLost, Unreachable


class Played(WorkerVerbs):
    """A service that answers as a test says, and remembers what it was told."""

    def __init__(self) -> None:
        self.verdict: Verdict = "continue"
        self.problem: problems.Problem | None = None
        self.beats = 0
        self.ended: list[Outcome | Release] = []
        self.kept: dict[str, str] = {}

    def heartbeat(self, lease_id: UUID) -> Answer:
        """Renew the lease."""
        self.beats += 1
        return self._answer()

    def report(self, lease_id: UUID, reports: Reports) -> Answer:
        """Store a value."""
        return self._answer()

    def settle(self, lease_id: UUID, outcome: Outcome) -> Settled:
        """End the trial."""
        self._answer()
        self.ended.append(outcome)
        return Settled(state="completed")

    def release(self, lease_id: UUID, release: Release) -> None:
        """Give the trial back."""
        self.ended.append(release)

    def download(self, sha256: str, path: str | Path) -> Path:
        """Fetch a file."""
        if sha256 not in self.kept:
            raise problems.ArtifactNotFound
        Path(path).write_text(self.kept[sha256])
        return Path(path)

    def _answer(self) -> Answer:
        if self.problem is not None:
            raise self.problem
        return Answer(verdict=self.verdict, ttl_s=60)


def a_lease(**changes: Any) -> ExternalLease:
    """A lease of a trial."""
    given: dict[str, Any] = {
        "lease_id": uuid4(),
        "study": "own",
        "trial_number": 3,
        "fence": 1,
        "ttl_s": 60.0,
        "seed": 1,
        "task": ExternalTask(kind="external", objective="accuracy", direction="maximize"),
        "hyperparameters": {},
    }
    return ExternalLease(**given | changes)


@pytest.fixture
def service() -> Played:
    """A service that goes on."""
    return Played()


def test_a_service_that_is_away_makes_no_trial_fail(service: Played) -> None:
    def away() -> None:
        with LoopTrial(service, a_lease()) as trial:
            service.problem = Unreachable()
            trial.report(0, 0.5)

    with pytest.raises(Unreachable):
        away()
    assert service.ended == [Release(reason="drain")]


def test_a_completed_trial_that_cannot_be_told_is_an_error(service: Played) -> None:
    def away() -> None:
        with LoopTrial(service, a_lease()) as trial:
            trial.report(0, 0.5)
            service.problem = Unreachable()

    with pytest.raises(Unreachable):
        away()


def test_an_exception_is_not_replaced_by_that_of_a_service_that_is_away(
    service: Played,
) -> None:
    def fail() -> None:
        with LoopTrial(service, a_lease()):
            service.problem = Unreachable()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_a_paused_trial_that_has_all_its_epochs_is_completed(service: Played) -> None:
    with LoopTrial(service, a_lease(hyperparameters={"epochs": 2})) as trial:
        trial.report(0, 0.5)
        service.verdict = "pause"
        assert not trial.report(1, 0.75)
    assert service.ended == [
        Completed(value=0.75, metrics={"accuracy": 0.75}, measured={"accuracy": 0.75})
    ]


def test_a_verdict_that_the_loop_was_not_told_ends_no_whole_trial(service: Played) -> None:
    with LoopTrial(service, a_lease()) as trial:
        trial.report(0, 0.5)
        service.verdict = "stop"
        trial._keeper.beat()  # pyright: ignore[reportPrivateUsage] - as its thread would
    assert isinstance(service.ended[0], Completed)


def test_a_damaged_checkpoint_makes_way_for_the_one_before(service: Played) -> None:
    service.kept = {"b" * 64: "after step 2"}
    wanted = {
        "resume": Checkpoint(step=5, sha256="a" * 64, bytes=1),
        "previous": Checkpoint(step=2, sha256="b" * 64, bytes=1),
    }
    with LoopTrial(service, a_lease(**wanted)) as trial:
        assert trial.first_step == 3
        assert trial.resume is not None
        assert trial.resume.read_text() == "after step 2"
        trial.report(3, 0.5)


def test_a_trial_none_of_whose_checkpoints_can_be_had_begins_anew(service: Played) -> None:
    wanted = {"resume": Checkpoint(step=5, sha256="a" * 64, bytes=1)}
    with LoopTrial(service, a_lease(**wanted)) as trial:
        assert (trial.resume, trial.first_step) == (None, 0)
        trial.report(0, 0.5)


class Clock:
    """A clock that stands still."""

    now = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


def a_keeper(service: Played, silent_s: float | None = None) -> tuple[LoopKeeper, Clock]:
    """A keeper without its thread."""
    clock = Clock()
    return LoopKeeper(service, uuid4(), 60, silent_s, clock), clock


def test_a_lease_is_renewed_after_a_quarter_of_its_time(service: Played) -> None:
    keeper, _ = a_keeper(service)
    assert keeper.beat() == 15
    assert service.beats == 1


def test_the_lease_of_a_loop_that_hangs_is_not_renewed(service: Played) -> None:
    keeper, clock = a_keeper(service, silent_s=100)
    clock.now = 99
    keeper.beat()
    clock.now = 100
    keeper.beat()
    assert service.beats == 1
    keeper.spoke()
    keeper.beat()
    assert service.beats == 2


@pytest.mark.parametrize("problem", [LeaseLost(), problems.LeaseNotFound(), problems.Gone()])
def test_a_lease_is_lost_by_the_services_word_alone(
    service: Played, problem: problems.Problem
) -> None:
    keeper, _ = a_keeper(service)
    service.problem = Unreachable()
    assert keeper.beat() == 1
    assert keeper.lost is None
    service.problem = problem
    keeper.beat()
    assert keeper.lost is problem


def test_the_gravest_verdict_stays(service: Played) -> None:
    keeper, _ = a_keeper(service)
    order: Sequence[Verdict] = ("stop", "continue", "pause", "finish")
    for service.verdict in order:
        keeper.beat()
    assert keeper.verdict == "pause"


def test_a_lost_trial_is_refused_before_anything_is_sent(
    service: Played, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("state")
    said: list[Callable[[LoopTrial], object]] = [
        lambda trial: trial.report(1, 0.5),
        lambda trial: trial.save(tmp_path / "state"),
    ]
    trial = LoopTrial(service, a_lease())
    trial._keeper.lose(LeaseLost())  # pyright: ignore[reportPrivateUsage] - as its thread would
    assert trial.should_stop
    for verb in said:
        with pytest.raises(LeaseLost, match="Trial 3 of own is no longer this process's"):
            verb(trial)
    with pytest.raises(LeaseLost):
        trial.__exit__(None, None, None)
    assert service.ended == []
