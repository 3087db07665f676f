"""A study of two models through every room: both get trials, and what is handed over is the best of both."""

import subprocess
from pathlib import Path

from tests.end_to_end.test_finish import PREDICT, REAL
from tests.support.documents import a_study_document
from tests.support.workers import a_worker, server_of
from trimtab.client import Client
from worker.training.model.export import load_exported

MODELS = {
    # Random weights, so that no linear model on their features is as good as a trained network.
    "small": {"backbone": "glyphnet", "weights": "none"},
    "deep": {"backbone": "cifar_resnet20", "weights": "none"},
}
DOCUMENT = a_study_document(
    name="digits",
    model={"choices": MODELS},
    space={
        "learning_rate": {"kind": "float", "low": 2e-3, "high": 5e-3},
        "weight_decay": {"kind": "float", "low": 0.0, "high": 0.1, "when": {"model": "deep"}},
    },
    fixed={"epochs": 3, "batch_size": 32, "image_size": 8},
    # One of each model to begin with, so that the average is of both.
    first_trials=[{"model": "small"}, {"model": "deep"}],
    search={"sampler": "random", "pruner": "none", "initial_trials": 2},
    budget={"trials": 4},
    finish={"refit": True, "ensemble": 2},
)


def test_each_trial_has_its_model_and_the_average_of_both_is_handed_over(
    client: Client, tmp_path: Path
) -> None:
    client.create_study(DOCUMENT)
    with a_worker(server_of(client), tmp_path / "worker", "--device", "cpu", runner=REAL):
        for event in client.events("digits"):
            assert event.kind != "study_problem"
    study = client.study("digits")
    assert (study.state, study.problem, study.refits.completed) == ("done", None, 2)
    trials = [client.trial("digits", number) for number in (0, 1)]
    told = [trial.hyperparameters for trial in trials]
    assert [values["model"] for values in told] == ["small", "deep"]
    assert ["weight_decay" in values for values in told] == [False, True]
    assert study.final is not None
    report = study.final.report
    assert report is not None
    best = client.best("digits")
    name = str(best.trial.hyperparameters["model"])
    assert best.model is not None
    assert best.model.backbone == MODELS[name]["backbone"]
    validated = load_exported(
        client.download_model("digits", tmp_path / "validated", which="validated")
    )
    assert validated.card.backbone == best.model.backbone
    handed = load_exported(client.download_model("digits", tmp_path / "model"))
    assert report.handed_over in ("ensemble", "refit"), report.why
    backbones = [member.card.backbone for member in handed.members]
    other = next(one["backbone"] for one in MODELS.values() if one["backbone"] != backbones[0])
    both = [best.model.backbone, other]
    assert backbones == (both if report.handed_over == "ensemble" else both[:1])
    answer = subprocess.run(
        [
            *(*PREDICT, "--model", str(tmp_path / "model"), "--json"),
            *("--builtin", "digits", "--index", "7"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"class": "7"' in answer.stdout
