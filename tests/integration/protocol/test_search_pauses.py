"""Trials that the search pauses while others promise more, and takes up again from their checkpoints."""

from typing import Any

from service.use_cases import studies, trials
from tests.support.protocol import Service
from trimtab.contract.leases import Lease
from trimtab.contract.trials import Trial

ASHA = {"kind": "asha", "first_rung": 1, "eta": 3}
"""Of trials of 9 epochs: rungs at 1 and 3 epochs."""


def a_search(service: Service, *, trials: int = 4, search: Any = None, **changes: Any) -> str:
    """A study whose search pauses trials, of 9 epochs each."""
    return service.study(
        search=search or {"sampler": "random", "pruner": ASHA},
        fixed={"epochs": 9},
        budget={"trials": trials},
        **changes,
    )


def shown(service: Service, number: int) -> Trial:
    page = trials.page(service.context, "digits", after=None, size=100, state=None)
    return page.trials[number]


def run(service: Service, lease: Lease, value: float) -> str:
    """Train to where the lease is decided on; give back what is to pause, complete what comes to its end."""
    begin = 0 if lease.resume is None else lease.resume.step + 1
    for step in range(begin, 9):
        verdict = service.report(lease, value, step=step)
        if verdict == "pause":
            service.checkpoint(lease, step)
            service.give_back_paused(lease)
            return f"paused after {step + 1}"
        assert verdict == "continue"
    return service.complete(lease, value)


def test_a_trial_is_paused_at_its_rung_and_taken_up_again_from_its_checkpoint(
    either: Service,
) -> None:
    a_search(either)
    worker = either.worker()
    first = either.lease(worker)
    assert (first.trial_number, first.runs_until) == (0, 1)
    assert either.report(first, 0.9) == "pause"
    either.checkpoint(first, 0)
    either.give_back_paused(first)
    told = shown(either, 0)
    assert (told.state, told.paused_by_search, told.runs_until) == ("paused", True, 1)
    assert told.reason is not None
    assert told.reason.rule == "asha"
    for number, value in ((1, 0.5), (2, 0.4)):
        lease = either.lease(worker)
        assert (lease.trial_number, lease.runs_until, lease.resume) == (number, 1, None)
        assert run(either, lease, value) == "paused after 1"
    again = either.lease(worker)
    assert (again.trial_number, again.runs_until, again.fence) == (0, 3, 2)
    assert again.resume is not None
    assert again.resume.step == 0
    assert [either.report(again, 0.9, step=step) for step in (1, 2)] == ["continue", "pause"]


def test_the_search_ends_when_nothing_is_worth_more_epochs(either: Service) -> None:
    a_search(either, trials=9)
    worker, ends = either.worker(), list[str]()
    while (leases := either.claim(worker)) and leases[0].kind == "trial":
        ends.append(run(either, leases[0], 1.0 - leases[0].trial_number / 10))
    study = studies.read(either.context, "digits")
    assert ends[-1] == "completed"
    assert (study.state, study.ended_by) == ("finalising", "trials")
    assert (study.progress.completed, study.progress.pruned) == (1, 8)
    assert study.progress.epochs == 9 * 1 + 3 * 2 + 1 * 6
