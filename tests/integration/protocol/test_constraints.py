"""What a trial must keep to be handed over, in the tables, for Optuna's users, and in every answer."""

from typing import Any

import optuna
import pytest

from service.use_cases import pareto, studies, trials
from tests.support.optuna_twin import storage_on
from tests.support.protocol import Service
from trimtab.contract.leases import Completed, Infeasible, Lease
from trimtab.contract.problems import Invalid, NoCompletedTrial, OneObjective

BOUNDS = [{"metric": "latency_ms", "max": 20}, {"metric": "accuracy", "min": 0.5}]


def complete(service: Service, lease: Lease, value: float, **measured: float) -> None:
    told = {"accuracy": value, "parameters": 1000.0, **measured}
    service.settle(lease, Completed(value=value, measured=told))


def test_a_trial_that_violates_a_constraint_is_completed_and_never_the_best(
    either: Service,
) -> None:
    either.study(budget={"trials": 3}, constraints=BOUNDS, finish={"refit": True})
    first = either.lease()
    assert first.costs == ("latency_ms",)
    complete(either, first, 0.9, latency_ms=25.0)
    complete(either, either.lease(), 0.7, latency_ms=20.0)
    best = studies.best(either.context, "digits")
    assert (best.trial.number, best.trial.measured["latency_ms"]) == (1, 20.0)
    assert [(one.violated, one.completed) for one in best.constraints] == [(1, 2), (0, 2)]
    told = trials.read(either.context, "digits", 0)
    assert (told.state, told.feasible) == ("completed", False)
    assert told.violations == {
        "latency_ms": pytest.approx(0.25),
        "accuracy": pytest.approx(-0.8),
    }
    assert trials.read(either.context, "digits", 1).feasible is True
    refit = either.lease()
    assert (refit.kind, refit.trial_number) == ("refit", 1)


SMALL = {"metric": "parameters", "max": 500}


def test_a_trial_that_violates_a_constraint_before_training_is_pruned_and_says_why(
    either: Service, database_url: str
) -> None:
    either.study(budget={"trials": 3}, constraints=[*BOUNDS, SMALL])
    lease = either.lease()
    assert [one.told for one in lease.constraints] == ["latency_ms <= 20", "parameters <= 500"]
    told = either.settle(lease, Infeasible(measured={"parameters": 1000.0}))
    assert told == "pruned"
    complete(either, either.lease(), 0.7, latency_ms=20.0, parameters=400.0)
    trial = trials.read(either.context, "digits", 0)
    assert (trial.state, trial.feasible, trial.value, trial.curve) == (
        "pruned",
        False,
        None,
        (),
    )
    assert (trial.measured, trial.violations) == ({"parameters": 1000.0}, {"parameters": 1.0})
    assert trial.reason is not None
    assert (trial.reason.rule, trial.reason.text) == (
        "constraint",
        "not trained: its model has parameters = 1000, and the study wants parameters <= 500",
    )
    best = studies.best(either.context, "digits")
    assert best.trial.number == 1
    kept = [(one.violated, one.completed, one.untrained) for one in best.constraints]
    assert kept == [(0, 1, 0), (0, 1, 0), (0, 1, 1)]
    storage = storage_on(database_url)
    seen = optuna.load_study(study_name="digits", storage=storage).get_trials()[0]
    storage.engine.dispose()
    assert (seen.state, seen.value) == (optuna.trial.TrialState.PRUNED, None)
    assert seen.constraints == {"0": 0.0, "1": 0.0, "2": 1.0}


def test_a_trial_that_is_known_to_be_too_slow_is_pruned_and_says_why(either: Service) -> None:
    either.study(budget={"trials": 3}, constraints=BOUNDS)
    measured = {"latency_ms": 30.0, "parameters": 10.0}
    assert either.settle(either.lease(), Infeasible(measured=measured)) == "pruned"
    trial = trials.read(either.context, "digits", 0)
    assert (trial.feasible, trial.violations) == (False, {"latency_ms": 0.5})
    assert trial.reason is not None
    assert trial.reason.text.endswith("latency_ms = 30, and the study wants latency_ms <= 20")


def test_where_no_trial_is_trained_the_study_ends_and_says_what_came_nearest(
    either: Service,
) -> None:
    either.study(budget={"trials": 2}, constraints=[SMALL])
    for parameters in (1500.0, 1000.0):
        either.settle(either.lease(), Infeasible(measured={"parameters": parameters}))
    told = studies.read(either.context, "digits")
    assert told.problem == (
        "There is no model. No trial completed: 2 were not trained, as they violate parameters <= 500 (the nearest has "
        "1000). Loosen the bounds, or search a space that has smaller or faster models."
    )


def test_a_trial_that_keeps_what_is_known_before_has_to_be_trained(either: Service) -> None:
    either.study(budget={"trials": 2}, constraints=[SMALL])
    lease = either.lease()
    with pytest.raises(Invalid, match="violates no constraint"):
        either.settle(lease, Infeasible(measured={"parameters": 500.0}))
    assert trials.read(either.context, "digits", 0).state == "running"


def test_what_was_not_measured_violates_its_constraint(either: Service) -> None:
    either.study(budget={"trials": 1}, constraints=BOUNDS)
    complete(either, either.lease(), 0.7)
    assert trials.read(either.context, "digits", 0).violations["latency_ms"] == 1.0


def test_a_study_without_a_feasible_trial_ends_without_a_model_and_says_why(
    either: Service,
) -> None:
    either.study(budget={"trials": 2}, constraints=BOUNDS)
    complete(either, either.lease(), 0.4, latency_ms=30.0)
    with pytest.raises(NoCompletedTrial, match="None of the 1 completed trials keeps"):
        studies.best(either.context, "digits")
    complete(either, either.lease(), 0.6, latency_ms=22.0)
    told = studies.read(either.context, "digits")
    assert (told.state, told.best) == ("done", None)
    assert told.problem == (
        "There is no model. None of the 2 completed trials keeps every constraint: "
        "2 of 2 violate latency_ms <= 20 (the nearest has 22); 1 of 2 violate accuracy >= 0.5. "
        "Loosen the bounds, or search a space that has smaller or faster models."
    )


def test_an_infeasible_trial_reaches_no_target(either: Service) -> None:
    either.study(budget={"trials": 3, "target_value": 0.8}, constraints=BOUNDS)
    complete(either, either.lease(), 0.9, latency_ms=25.0)
    assert studies.read(either.context, "digits").state == "active"
    complete(either, either.lease(), 0.85, latency_ms=10.0)
    assert studies.read(either.context, "digits").ended_by == "target_value"


def test_optuna_tells_feasible_trials_from_others(service: Service, database_url: str) -> None:
    service.study(budget={"trials": 3}, constraints=BOUNDS)
    complete(service, service.lease(), 0.9, latency_ms=25.0)
    complete(service, service.lease(), 0.7, latency_ms=10.0)
    storage = storage_on(database_url)
    study = optuna.load_study(study_name="digits", storage=storage)
    storage.engine.dispose()
    assert study.best_trial.number == 1
    told = study.get_trials()
    assert told[0].constraints == {"0": pytest.approx(0.25), "1": pytest.approx(-0.8)}
    assert told[1].user_attrs["latency_ms"] == 10.0
    assert told[1].user_attrs["parameters"] == 1000


TWO = [{"metric": "accuracy"}, {"metric": "latency_ms"}]
GRID: dict[str, Any] = {
    "space": {"head": {"kind": "choices", "choices": ["mlp", "linear"]}},
    "search": {"sampler": "grid", "pruner": "none"},
}


def test_the_front_has_what_nothing_feasible_beats_in_both(
    service: Service, database_url: str
) -> None:
    bounds = [{"metric": "parameters", "max": 5000}]
    service.study(
        budget={"trials": 5},
        objectives=TWO,
        constraints=bounds,
        search={"sampler": "random", "pruner": "none"},
    )
    ends = [(0.9, 30.0, 1e3), (0.8, 40.0, 1e3), (0.7, 10.0, 1e3), (0.95, 5.0, 9e3)]
    for value, latency_ms, parameters in ends:
        complete(service, service.lease(), value, latency_ms=latency_ms, parameters=parameters)
    front = pareto.read(service.context, "digits")
    assert [one.number for one in front.trials] == [0, 2]
    assert front.trials[1].values == {"accuracy": 0.7, "latency_ms": 10.0}
    assert [one.direction for one in front.objectives] == ["maximize", "minimize"]
    storage = storage_on(database_url)
    study = optuna.load_study(study_name="digits", storage=storage)
    storage.engine.dispose()
    assert {one.number for one in study.best_trials} == {0, 2}
    assert study.get_trials()[0].values == [0.9, 30.0]
    assert studies.best(service.context, "digits").trial.number == 0


def test_an_outcome_without_the_second_objective_is_refused(either: Service) -> None:
    either.study(budget={"trials": 2}, objectives=TWO, **GRID)
    lease = either.lease()
    with pytest.raises(Invalid, match=r"lacks `measured\.latency_ms`"):
        complete(either, lease, 0.9)
    assert trials.read(either.context, "digits", 0).state == "running"
    complete(either, lease, 0.9, latency_ms=2.0)
    assert trials.read(either.context, "digits", 0).second_value == 2.0


def test_a_study_with_one_objective_has_no_front(service: Service) -> None:
    service.study()
    with pytest.raises(OneObjective):
        pareto.read(service.context, "digits")


def test_of_two_objectives_optuna_hears_no_half_of_a_trial_that_a_person_stops(
    service: Service, database_url: str
) -> None:
    service.study(objectives=TWO, **GRID)
    lease = service.lease()
    service.report(lease, 0.5)
    service.prune(lease)
    storage = storage_on(database_url)
    study = optuna.load_study(study_name="digits", storage=storage)
    (told,) = study.get_trials()
    assert (told.state.name, told.values) == ("PRUNED", None)
    assert study.best_trials == []
    storage.engine.dispose()
