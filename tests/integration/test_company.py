"""Trials that train at a time in one real runner: small heads on what a frozen backbone makes of handwritten digits.

They are one computation where this CPU's products allow it, and take turns where they do not: both are tried.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.support.leases import a_lease
from tests.support.runners import Trials
from trimtab.contract.leases import Completed, Failed, Lease, Outcome, Pruned, Report, Verdict
from worker.pipe_messages import Began, Ended, EpochDone, RunTrial, SavedState, Steer
from worker.training.loop.state import FitState

EPOCHS = 3


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Generator[Trials]:
    trials = Trials(tmp_path_factory.mktemp("cache"), "cpu")
    yield trials
    trials.runner.close()


@pytest.fixture(scope="module")
def trials_in_turn(tmp_path_factory: pytest.TempPathFactory) -> Generator[Trials]:
    cache = tmp_path_factory.mktemp("cache")
    trials = Trials(cache, "cpu", module="tests.support.runner_in_turn")
    yield trials
    trials.runner.close()


@pytest.fixture(scope="module", params=["trials", "trials_in_turn"])
def either(request: pytest.FixtureRequest) -> Trials:
    """A runner that computes small heads as this CPU allows, or in turn."""
    return request.getfixturevalue(request.param)


def a_trial(number: int, **recipe: Any) -> Lease:
    return a_lease(
        trial_number=number,
        seed=number,
        model={"backbone": "glyphnet", "weights": "default"},
        recipe={"epochs": EPOCHS, "learning_rate": 0.01, **recipe},
    )


def a_probe(number: int, **recipe: Any) -> Lease:
    return a_trial(number, **{"frozen_stages": 1000, **recipe})


@dataclass
class Heard:
    """What the runner said of each lease, and in which order."""

    may_group: dict[UUID, bool] = field(default_factory=dict[UUID, bool])
    curves: defaultdict[UUID, list[Report]] = field(
        default_factory=lambda: defaultdict[UUID, list[Report]](list)
    )
    outcomes: dict[UUID, Outcome | None] = field(default_factory=dict[UUID, Outcome | None])
    newest: dict[UUID, SavedState | None] = field(default_factory=dict[UUID, SavedState | None])
    order: list[UUID] = field(default_factory=list[UUID])

    def curve(self, lease: Lease) -> list[tuple[int, float | None, dict[str, float]]]:
        """All but how long it took."""
        return [
            (
                one.step,
                one.value,
                {name: value for name, value in one.metrics.items() if name != "seconds"},
            )
            for one in self.curves[lease.lease_id]
        ]


def run(
    trials: Trials,
    leases: Sequence[Lease],
    verdict: Callable[[EpochDone], Verdict] = lambda _: "continue",
) -> Heard:
    """Send the first, all others as soon as it has told its first epoch, and wait for their ends."""
    heard = Heard()
    first, *others = leases
    answered: set[UUID] = set()

    def answer(epoch: EpochDone) -> Verdict:
        if not answered:
            for lease in others:
                trials.order(lease)
        answered.add(epoch.lease_id)
        return verdict(epoch)

    trials.order(first)
    news = trials.hear(answer)
    while len(heard.outcomes) < len(leases):
        match next(news):
            case Began(lease_id=lease_id, may_group=may_group):
                heard.may_group[lease_id] = may_group
            case EpochDone(lease_id=lease_id, report=report):
                heard.curves[lease_id].append(report)
                heard.order.append(lease_id)
            case Ended(lease_id=lease_id, outcome=outcome, newest=newest):
                heard.outcomes[lease_id] = outcome
                heard.newest[lease_id] = newest
            case other:
                raise AssertionError(other)
    return heard


@pytest.fixture(scope="module")
def alone(either: Trials) -> Callable[[Lease], Heard]:
    return lambda lease: run(either, [lease])


def test_each_learns_bit_by_bit_what_it_learns_alone(
    either: Trials, alone: Callable[[Lease], Heard]
) -> None:
    leases = [
        a_probe(0, epochs=6),
        a_probe(1, learning_rate=0.1),
        a_probe(2, optimizer="sgd", batch_size=64),
        a_probe(3, ema_decay=0.9),
    ]
    heard = run(either, leases)
    assert all(heard.may_group.values())
    # They took turns: none waited for another's end.
    assert heard.order[1:5] == [lease.lease_id for lease in leases]
    for lease in leases:
        assert len(heard.curve(lease)) == lease.recipe.epochs
        assert heard.curve(lease) == alone(lease).curve(lease)


def test_a_verdict_concerns_its_own_trial_alone(
    either: Trials, alone: Callable[[Lease], Heard]
) -> None:
    leases = [a_probe(number, epochs=6) for number in range(4)]
    lead, stopped, paused, cancelled = leases
    verdicts: dict[UUID, Verdict] = {
        stopped.lease_id: "stop",
        paused.lease_id: "pause",
        cancelled.lease_id: "cancel",
    }
    heard = run(
        either,
        leases,
        lambda epoch: (
            verdicts.get(epoch.lease_id, "continue") if epoch.report.step == 1 else "continue"
        ),
    )
    assert heard.outcomes[stopped.lease_id] == Pruned()
    assert heard.outcomes[paused.lease_id] is None
    assert heard.outcomes[cancelled.lease_id] == Failed(error="cancelled")
    saved = heard.newest[paused.lease_id]
    assert saved is not None
    assert saved.step == 1
    assert heard.curve(lead) == alone(lead).curve(lead)
    assert isinstance(heard.outcomes[lead.lease_id], Completed)


def test_an_unlike_trial_waits_until_the_company_is_gone(trials: Trials) -> None:
    lead, unlike, like = a_probe(0), a_trial(1, epochs=1), a_probe(2)
    heard = run(trials, [lead, unlike, like])
    assert heard.may_group == {
        lead.lease_id: True,
        unlike.lease_id: False,
        like.lease_id: True,
    }
    assert heard.order == [lead.lease_id] * 3 + [unlike.lease_id] + [like.lease_id] * 3


def test_a_trial_that_trains_its_backbone_takes_no_company(trials: Trials) -> None:
    lead, other = (a_trial(number, epochs=2) for number in (0, 1))
    heard = run(trials, [lead, other])
    assert heard.order == [lead.lease_id] * 2 + [other.lease_id] * 2
    assert not any(heard.may_group.values())


def to_its_end(
    trials: Trials, heard: Heard, after_epoch: Callable[[], None] = lambda: None
) -> Ended:
    """Let the trial that was sent go on, whatever its epochs bring, until it ends."""
    for news in trials.hear(lambda _: "continue"):
        match news:
            case EpochDone(lease_id=lease_id, report=report):
                heard.curves[lease_id].append(report)
                after_epoch()
            case Ended():
                return news
            case _:
                pass
    raise AssertionError("the runner has died")


def test_a_trial_that_is_released_within_an_epoch_goes_on_from_there(
    trials: Trials, tmp_path: Path
) -> None:
    lease = a_trial(3, batch_size=4, mixup=0.4, ema_decay=0.9)
    pause = Steer(lease_id=lease.lease_id, verdict="pause")
    whole, heard = run(trials, [lease]), Heard()
    trials.order(lease)
    # The next epoch has just begun when this is sent.
    released = to_its_end(trials, heard, lambda: trials.runner.send(pause))
    assert released.outcome is None
    assert released.newest is not None
    assert FitState.load(released.newest.path).part is not None
    resume = (released.newest,)
    trials.runner.send(RunTrial(lease=lease, folder=tmp_path, resume=resume))
    assert isinstance(to_its_end(trials, heard).outcome, Completed)
    assert heard.curve(lease) == whole.curve(lease)
