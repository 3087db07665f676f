"""Guarded freeze-thaw through claims, reports and releases, and what `sampler: auto` leaves in a study."""

import math
from collections.abc import Sequence
from typing import Any

from service.domain.auto_search import FEWEST_TRIALS
from service.sampling.model.curves import decision_epochs
from service.use_cases import studies, trials
from tests.support.protocol import Service
from tests.support.protocol_invariants import broken
from trimtab.contract.leases import Lease
from trimtab.contract.schedulers import FreezeThawScheduler
from trimtab.contract.trials import Trial

EPOCHS = 12
GRID = decision_epochs(EPOCHS)
SEARCH: dict[str, Any] = {"sampler": "gp", "pruner": "freeze_thaw"}


def a_search(service: Service, *, trials: int = 16, **changes: Any) -> None:
    service.study(
        search=changes.pop("search", SEARCH),
        fixed={"epochs": EPOCHS},
        budget={"trials": trials},
        finish={"refit": False, "ensemble": 2},
        **changes,
    )


def all_shown(service: Service) -> Sequence[Trial]:
    return trials.page(service.context, "digits", after=None, size=100, state=None).trials


def value(lease: Lease, step: int) -> float:
    """A curve that rises to a level by the learning rate, which is best at a thousandth."""
    rate = float(str(lease.recipe.learning_rate))
    level = 0.95 - 0.08 * (math.log10(rate) + 3) ** 2
    return max(0.0, level) * (1 - math.exp(-(step + 2) / 3))


def train(service: Service, lease: Lease) -> str:
    """Train until the lease is over: paused and given back, stopped, or completed."""
    begin = 0 if lease.resume is None else lease.resume.step + 1
    for step in range(begin, EPOCHS):
        match service.report(lease, value(lease, step), step=step):
            case "continue":
                continue
            case "pause":
                service.checkpoint(lease, step)
                service.give_back_paused(lease)
                return "pause"
            case other:
                return other
    return service.complete(lease, value(lease, EPOCHS - 1))


def search(service: Service) -> None:
    """Let one worker train until the search is over."""
    worker = service.worker()
    while (leases := service.claim(worker)) and leases[0].kind == "trial":
        train(service, leases[0])


def test_a_search_runs_from_its_first_trials_to_its_end(either: Service) -> None:
    a_search(either)
    search(either)
    study, shown = studies.read(either.context, "digits"), all_shown(either)
    assert (study.state, study.ended_by, study.trials_created) == ("finalising", "trials", 16)
    assert study.progress.completed >= 2
    assert study.progress.pruned >= 4
    # Nothing is trained twice.
    assert either.value("SELECT count(*) FROM trimtab.reports") == study.progress.epochs
    assert study.progress.epochs < 16 * EPOCHS
    assert all(trial.reason for trial in shown if trial.state == "pruned")
    assert broken(either.context.database) == {}


def test_a_paused_trial_tells_why_and_what_it_is_expected_to_end_with(either: Service) -> None:
    a_search(either)
    worker = either.worker()
    for _ in range(14):
        (lease,) = either.claim(worker)
        train(either, lease)
    told = [trial.reason for trial in all_shown(either) if trial.state == "paused"]
    assert {reason.rule for reason in told if reason} == {"freeze_thaw"}
    expected = [reason.expected for reason in told if reason and reason.expected]
    assert expected
    assert all(one.low <= one.value <= one.high for one in expected)


def test_a_trial_that_runs_to_its_end_is_decided_on_at_each_decision_epoch(
    either: Service,
) -> None:
    a_search(either, trials=40)
    worker = either.worker()
    while either.value("SELECT count(*) FROM trimtab.trials WHERE state = 'completed'") < 5:
        (lease,) = either.claim(worker)
        train(either, lease)
    while (lease := either.claim(worker)[0]).runs_until is not None:
        train(either, lease)
    begin = 0 if lease.resume is None else lease.resume.step + 1
    verdicts = {
        step + 1: either.report(lease, 0.01, step=step)
        for step in range(begin, next(epoch for epoch in GRID if epoch > begin))
    }
    # Worse than the median of five: it need not come to its end.
    assert list(verdicts.values())[-1] == "pause"
    assert set(list(verdicts.values())[:-1]) <= {"continue"}


def test_auto_is_settled_when_a_study_is_created(either: Service) -> None:
    a_search(either, trials=FEWEST_TRIALS, search={"sampler": "auto"})
    found = studies.read(either.context, "digits").document.search
    assert (found.sampler, found.pruner) == ("gp", FreezeThawScheduler(kind="freeze_thaw"))
    assert found.auto_reason
    assert found.auto_reason.startswith("gp with freeze_thaw")
    assert either.lease().runs_until == GRID[0]


def test_auto_of_few_trials_is_tpe_with_all_that_it_needs(either: Service) -> None:
    a_search(either, trials=FEWEST_TRIALS - 1, search={"sampler": "auto"})
    found = studies.read(either.context, "digits").document.search
    assert (found.sampler, found.pruner.kind) == ("tpe", "median")
    assert found.tpe_startup_trials is not None
    assert either.lease().runs_until is None
