"""Real workers at a study's end: refits, and the final lease that chooses; only the service is scripted."""

import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.support import scripted_service
from tests.support.heard import about, kept, settle, weights_of
from tests.support.leases import a_lease
from tests.support.scripted_service import ScriptedService
from tests.support.workers import a_worker
from trimtab.contract.final_report import FinalReport
from trimtab.contract.leases import Checkpoint, Completed, Lease
from trimtab.contract.validation_outputs import TrialOutputs
from worker.training.model.export import load_exported

RUNNER = "worker.runner"
RECIPE: dict[str, Any] = {"epochs": 3, "learning_rate": 3e-3, "batch_size": 32}


@pytest.fixture(scope="module")
def service() -> Generator[ScriptedService]:
    with scripted_service.running() as service:
        service.ttl_s = 60
        yield service


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def worker(service: ScriptedService, cache: Path) -> Generator[None]:
    with a_worker(service.address, cache, runner=RUNNER):
        yield


def member(number: int, trial: dict[str, Any], refit: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "trial_number": number,
        "seed": number,
        "hyperparameters": {},
        "recipe": RECIPE,
        "value": 0.5,
        "validated": trial,
        "refit": refit,
    }


def a_trial(number: int, **changes: Any) -> Lease:
    fields: dict[str, Any] = {"trial_number": number, "seed": number, "recipe": RECIPE}
    return a_lease(**(fields | changes))


@pytest.mark.usefixtures("worker")
def test_a_refit_learns_from_train_and_validation_and_reports_no_epoch(
    service: ScriptedService,
) -> None:
    trial = a_trial(1)
    settle(service, trial)
    validated = kept(service, trial)
    refit = a_trial(1, kind="refit", members=[member(1, validated, None)])
    outcome = settle(service, refit)
    assert outcome["kind"] == "completed"
    assert outcome["validation_outputs"] is None
    assert not about(service, "reports", refit)
    (record,) = about(service, "record", refit)
    assert record["labels_used"] == 1079 + 359
    (of_trial,) = about(service, "record", trial)
    data = ("data_sha256", "split_sha256", "pictures", "classes", "class_counts")
    assert {name: record[name] for name in data} == {name: of_trial[name] for name in data}
    assert kept(service, refit)["step"] == validated["step"] == 2
    assert weights_of(service, refit) != weights_of(service, trial)


@pytest.mark.usefixtures("worker")
def test_a_refit_trains_as_many_epochs_as_its_trial_has_kept(service: ScriptedService) -> None:
    # As of a trial that early stopping has ended after its second epoch of five.
    long = RECIPE | {"epochs": 5, "early_stopping_patience": 1}
    validated = {"step": 1, "sha256": "0" * 64, "bytes": 9}
    refit = a_trial(1, kind="refit", recipe=long, members=[member(1, validated, None)])
    assert settle(service, refit)["kind"] == "completed"
    assert kept(service, refit)["step"] == 1


@pytest.mark.usefixtures("worker")
def test_a_refit_put_aside_ends_with_the_weights_of_the_uninterrupted_one(
    service: ScriptedService, cache: Path
) -> None:
    long = RECIPE | {"epochs": 4}
    first = a_trial(3, kind="refit", recipe=long)
    with scripted_service.running() as own_service:
        own_service.ttl_s = 60
        own_service.give(first)
        with a_worker(own_service.address, cache, runner=RUNNER) as one:
            own_service.wait_for(lambda: bool(about(own_service, "record", first)), 120)
            one.send(signal.SIGTERM)
            assert one.wait() == 0
        assert about(own_service, "release", first) == [{"reason": "drain"}]
        recorded = about(own_service, "checkpoint", first)[-1]["checkpoint"]
        service.artifacts |= own_service.artifacts
    second = a_trial(
        3, kind="refit", recipe=long, fence=2, resume=Checkpoint.model_validate(recorded)
    )
    whole = a_trial(3, kind="refit", recipe=long)
    settle(service, second)
    settle(service, whole)
    assert weights_of(service, second) == weights_of(service, whole)


@pytest.mark.usefixtures("worker")
def test_the_final_lease_hands_over_the_ensemble_of_the_refits(
    service: ScriptedService, tmp_path: Path
) -> None:
    states: list[tuple[dict[str, Any], dict[str, Any]]] = []
    told: list[TrialOutputs] = []
    for number in (1, 2):
        trial, refit = a_trial(number), a_trial(number, kind="refit")
        ended = Completed.model_validate(settle(service, trial), strict=False)
        assert ended.validation_outputs is not None
        outputs = ended.validation_outputs
        told.append(TrialOutputs(trial_number=number, value=ended.value, outputs=outputs))
        settle(service, refit)
        states.append((kept(service, trial), kept(service, refit)))
    members = [member(number, *both) for number, both in zip((1, 2), states, strict=True)]
    final = a_trial(
        1, kind="final", resume=Checkpoint.model_validate(states[0][0]), members=members
    )
    service.trial_outputs = tuple(told)
    outcome = settle(service, final)
    assert outcome["kind"] == "completed", outcome
    report = FinalReport.model_validate(outcome["report"], strict=False)
    assert report.handed_over == "ensemble", report.why
    assert [one.kind for one in report.candidates] == [
        "winner",
        "refit",
        "ensemble",
        "linear_probe",
    ]
    assert outcome["value"] == outcome["metrics"]["test_accuracy"] == report.test.value > 0.9
    paths = {name: tmp_path / name for name in ("model_sha256", "validated_sha256")}
    for name, path in paths.items():
        path.write_bytes(service.artifacts[outcome[name]])
    handed_over, validated = (load_exported(path) for path in paths.values())
    assert [one.card.seed for one in handed_over.members] == [1, 2]
    assert handed_over.card.scores.test_accuracy == outcome["value"]
    assert len(validated.members) == 1
    winner = report.candidates[0]
    assert winner.test is not None
    assert validated.card.scores.test_accuracy == winner.test.value
    assert winner.trials == (1,)
    corrected = report.corrected
    assert corrected is not None, report.why_not_corrected
    assert (corrected.trials, corrected.samples) == (2, 500)
    assert winner.validation_value is not None
    assert corrected.value.low < winner.validation_value < corrected.value.high + 0.01
    assert corrected.gain.low <= 0
    assert [one.name for one in report.classes] == [str(digit) for digit in range(10)]
    assert sum(one.count for one in report.classes) == 359
    wrong = sum(one.count for one in report.confusion)
    assert wrong == round(359 * (1 - report.test.value))
