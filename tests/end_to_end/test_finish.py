"""The end of a study through every room: refits that survive their worker, one choice, two models, one report."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.documents import a_study_document
from tests.support.workers import a_worker, server_of
from trimtab.client import Client
from trimtab.contract.studies import StudyDocument
from worker.training.model.export import load_exported

REAL = "worker.runner"
PREDICT = (sys.executable, "-P", "-m", "worker", "predict")


def a_study(trials: int, **finish: int) -> StudyDocument:
    return a_study_document(
        name="digits",
        # Random weights, so that no linear model on their features is as good as a trained network.
        model={"backbone": "glyphnet", "weights": "none"},
        space={"learning_rate": {"kind": "float", "low": 2e-3, "high": 5e-3}},
        fixed={"epochs": 4, "batch_size": 32},
        search={"sampler": "random", "pruner": "none"},
        budget={"trials": trials},
        finish={"refit": True, **finish},
        lease_ttl_s=3,
    )


def test_a_study_hands_over_the_average_of_its_refits_although_a_worker_died(
    client: Client, tmp_path: Path
) -> None:
    client.create_study(a_study(5, ensemble=2))
    events = client.events("digits")
    server = server_of(client)
    with a_worker(server, tmp_path / "first", "--device", "cpu", runner=REAL) as first:
        next(event for event in events if event.kind == "refit_started")
        first.send(signal.SIGKILL)
        first.wait()
    with a_worker(server, tmp_path / "second", "--device", "cpu", runner=REAL):
        kinds = [event.kind for event in events]
    study = client.study("digits")
    assert (study.state, study.problem) == ("done", None)
    assert (study.trials_created, study.refits.completed, study.refits.failed) == (3, 2, 0)
    # The refit whose worker died is queued again, and begun anew.
    assert kinds.count("refit_queued") == 1
    assert kinds.count("refit_started") == kinds.count("refit_settled") == 2
    assert kinds.count("final_test_opened") == kinds.count("final_settled") == 1
    assert "reported" not in kinds[kinds.index("refit_settled") :]
    assert study.final is not None
    report = study.final.report
    assert report is not None
    assert report.handed_over == "ensemble", report.why
    told = {each.kind: each for each in report.candidates}
    assert list(told) == ["winner", "refit", "ensemble", "linear_probe"]
    assert all(each.test is not None for each in report.candidates)
    assert told["ensemble"].test == report.test
    assert report.test.value == study.final.test_value == study.final.test_accuracy
    best = client.best("digits").trial
    assert told["winner"].trials == (best.number,)
    model = client.download_model("digits", tmp_path / "model")
    validated = client.download_model("digits", tmp_path / "validated", which="validated")
    assert len(load_exported(model).members) == 2
    assert len(load_exported(validated).members) == 1
    answer = subprocess.run(
        [*PREDICT, "--model", str(model), "--json", "--builtin", "digits", "--index", "7"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"class": "7"' in answer.stdout


def test_all_seeds_of_a_trial_are_one_model_although_a_worker_died_at_a_further_one(
    client: Client, tmp_path: Path
) -> None:
    client.create_study(a_study(4, ensemble=1, seeds=2))
    events = client.events("digits")
    server = server_of(client)
    with a_worker(server, tmp_path / "first", "--device", "cpu", runner=REAL) as first:
        next(
            event
            for event in events
            if event.kind == "refit_started" and event.body.get("seed_index") == 1
        )
        first.send(signal.SIGKILL)
        first.wait()
    with a_worker(server, tmp_path / "second", "--device", "cpu", runner=REAL):
        rest = [(event.kind, event.body.get("seed_index")) for event in events]
    # The lease of that seed expired, and the seed was begun anew.
    assert rest.count(("refit_queued", 1)) == rest.count(("refit_started", 1)) == 1
    assert rest.count(("refit_settled", 1)) == 1
    study = client.study("digits")
    assert (study.state, study.problem) == ("done", None)
    assert (study.trials_created, study.refits.completed, study.refits.total) == (2, 2, 2)
    assert study.final is not None
    report = study.final.report
    assert report is not None
    told = {each.kind: each for each in report.candidates}
    assert list(told) == ["winner", "refit", "ensemble", "linear_probe"]
    assert report.handed_over == "ensemble", report.why
    assert report.test == told["ensemble"].test
    model = load_exported(client.download_model("digits", tmp_path / "model"))
    own, further = (member.card.seed for member in model.members)
    validated = client.download_model("digits", tmp_path / "validated", which="validated")
    assert load_exported(validated).card.seed == own != further
    assert model.card.scores.test_accuracy == report.test.value
