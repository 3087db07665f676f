"""Successive halving against Optuna's, where both answer the same question: does a trial that reaches a rung go on?

Optuna's prunes whoever may not go on at that moment and never takes one up again, and it lets the first trials of a rung go
on without any to compare with. So trials come one after another, and from the `eta`-th of a rung on the answers are the same.
"""

import random

import optuna
import pytest
from optuna.pruners import SuccessiveHalvingPruner

from service.sampling.scheduling.asha import asha
from service.sampling.scheduling.scheduler import GoOn
from tests.support.scheduled import a_trial, asked
from trimtab.contract.metrics import Direction
from trimtab.contract.schedulers import AshaScheduler

EPOCHS, RUNGS = 27, (1, 3, 9)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("seed", range(5))
def test_whoever_reaches_a_rung_goes_on_where_optunas_trial_does(
    direction: Direction, seed: int
) -> None:
    rng, sign = random.Random(seed), 1.0 if direction == "maximize" else -1.0
    pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(direction=direction, pruner=pruner)
    scheduler = asha(
        AshaScheduler(kind="asha", first_rung=1, eta=3),
        epochs=EPOCHS,
        direction=direction,
        wanted=1,
    )
    reached = dict.fromkeys(RUNGS, 0)
    compared = 0
    for number in range(60):
        trial, best = study.ask(), rng.random()
        values: list[float] = []
        goes_on = True
        while goes_on and len(values) < EPOCHS - 1:  # the end is a rung of Optuna too
            best += 0.001 * rng.random()  # values only become better: the last one is the best
            values.append(sign * best)
            epochs = len(values)
            trial.report(values[-1], step=epochs)
            theirs = not trial.should_prune()
            if epochs not in RUNGS:
                assert theirs
                continue
            reached[epochs] += 1
            scheduler.learn([a_trial(number, *values, state="running", runs_until=epochs)])
            choice = scheduler.decide(asked(number))
            ours = isinstance(choice, GoOn) and choice.number == number
            if reached[epochs] >= 3:
                assert ours == theirs
                compared += 1
            goes_on = theirs
        is_pruned = not goes_on
        # One that Optuna has pruned is none of those that may be taken up: it counts on its rungs alone.
        state = "pruned" if is_pruned else "completed"
        study.tell(
            trial,
            None if is_pruned else values[-1],
            state=optuna.trial.TrialState.PRUNED if is_pruned else None,
        )
        scheduler.learn([a_trial(number, *values, state=state, by_search=False)])
    assert compared > 60
