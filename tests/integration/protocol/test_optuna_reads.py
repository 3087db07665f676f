"""What Optuna's own users see of our studies."""

import math
from collections.abc import Callable

import optuna

from service.use_cases import studies
from tests.support.documents import a_document
from tests.support.optuna_twin import storage_on
from tests.support.protocol import Service
from trimtab.contract.final_report import Corrected, FinalReport, Interval
from trimtab.contract.leases import Lease


def test_optuna_reads_our_study_as_its_own(service: Service, database_url: str) -> None:
    service.study(budget={"trials": 6})
    values: dict[str, Callable[[Lease], object]] = {
        "completed": lambda lease: service.complete(lease, 0.5),
        "pruned": service.prune,
        "diverged": lambda lease: service.fail(lease, "diverged"),
        "failed": lambda lease: service.fail(lease, "crashed"),
        "best": lambda lease: service.complete(lease, 0.9),
    }
    for end in values.values():
        lease = service.lease()
        service.report(lease, 0.2, None, 0.3)
        end(lease)
    paused = service.lease()
    studies.pause(service.context, "digits")
    service.give_back_paused(paused)

    storage = storage_on(database_url)
    study = optuna.load_study(study_name="digits", storage=storage)
    assert (study.best_trial.number, study.best_value) == (4, 0.9)
    told = study.get_trials()
    assert [one.state.name for one in told] == [
        "COMPLETE",
        "PRUNED",
        "PRUNED",
        "FAIL",
        "COMPLETE",
        "WAITING",
    ]
    assert [one.value for one in told] == [0.5, 0.3, None, None, 0.9, None]
    assert told[0].intermediate_values[0] == 0.2
    assert math.isnan(told[0].intermediate_values[1])
    assert told[2].system_attrs["trimtab:error_kind"] == "diverged"
    assert told[5].params == told[5].system_attrs["fixed_params"] == paused.hyperparameters
    assert told[5].system_attrs["trimtab:state"] == "paused"
    assert study.metric_names == ["validation_accuracy"]
    storage.engine.dispose()


def test_optuna_is_not_told_of_a_crash_that_the_trial_got_over(
    service: Service, database_url: str
) -> None:
    service.study(budget={"trials": 1})
    service.fail(service.lease(), "oom", retryable=True)
    service.clock.advance(300)
    service.prune(service.lease())
    storage = storage_on(database_url)
    (told,) = optuna.load_study(study_name="digits", storage=storage).get_trials()
    storage.engine.dispose()
    assert told.state.name == "PRUNED"
    assert told.system_attrs["trimtab:error_kind"] is None
    assert told.system_attrs["trimtab:state"] == "pruned"
    assert told.user_attrs == {"proposed_by": "random"}


def test_the_dashboards_user_attributes_tell_fixed_values_failures_and_test_scores(
    service: Service, database_url: str
) -> None:
    service.study(budget={"trials": 2}, fixed={"epochs": 3, "optimizer": "sgd"})
    service.fail(service.lease(), "diverged")
    service.complete(service.lease(), 0.5)
    service.complete_final(service.lease(), 0.75)
    storage = storage_on(database_url)
    study = optuna.load_study(study_name="digits", storage=storage)
    storage.engine.dispose()
    assert study.user_attrs == {
        "fixed": {"epochs": 3, "optimizer": "sgd"},
        "test_accuracy": 0.75,
        "test_accuracy_before": 0.1,
    }
    assert [one.user_attrs for one in study.get_trials()] == [
        {"proposed_by": "random", "failure": "diverged: It fell."},
        {"proposed_by": "random"},
    ]


def test_the_dashboards_user_attributes_tell_what_is_handed_over_and_how_far_to_trust_it(
    service: Service, database_url: str
) -> None:
    service.study(budget={"trials": 1})
    service.complete(service.lease(), 0.8)
    corrected = Corrected(
        value=Interval(value=0.77, low=0.7, high=0.83),
        first=0.77,
        gain=Interval(value=0, low=0, high=0),
        trials=1,
        samples=0,
    )
    report = FinalReport(
        handed_over="winner",
        why="It is the best.",
        candidates=(),
        test=Interval(value=0.75, low=0.7, high=0.79),
        corrected=corrected,
    )
    service.complete_final(service.lease(), 0.75, report)
    storage = storage_on(database_url)
    study = optuna.load_study(study_name="digits", storage=storage)
    storage.engine.dispose()
    assert study.user_attrs == {
        "fixed": {"epochs": 4},
        "test_accuracy": 0.75,
        "test_accuracy_before": 0.1,
        "handed_over": "winner",
        "test_low": 0.7,
        "test_high": 0.79,
        "validation_corrected": 0.77,
    }


def test_optuna_reads_the_objective_and_that_less_of_it_is_better(
    service: Service, database_url: str
) -> None:
    service.study(task={**a_document()["task"], "objective": "loss"})
    for value in (0.5, 0.2):
        service.complete(service.lease(), value)
    storage = storage_on(database_url)
    study = optuna.load_study(study_name="digits", storage=storage)
    assert (study.direction.name, study.best_value) == ("MINIMIZE", 0.2)
    assert study.metric_names == ["validation_loss"]
    storage.engine.dispose()
