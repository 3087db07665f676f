"""The end of a study through every room: refits that survive their worker, one choice, two models, one report."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.documents import a_study_document
from tests.support.workers import a_worker, server_of
from trimtab.client import Client
from worker.training.model.export import load_exported

REAL = "worker.runner"
PREDICT = (sys.executable, "-P", "-m", "worker", "predict")
DOCUMENT = a_study_document(
    name="digits",
    # Random weights, so that no linear model on their features is as good as a trained network.
    model={"backbone": "glyphnet", "weights": "none"},
    space={"learning_rate": {"kind": "float", "low": 2e-3, "high": 5e-3}},
    fixed={"epochs": 4, "batch_size": 32},
    search={"sampler": "random", "pruner": "none"},
    budget={"trials": 5},
    finish={"refit": True, "ensemble": 2},
    lease_ttl_s=3,
)


def test_a_study_hands_over_the_average_of_its_refits_although_a_worker_died(
    client: Client, tmp_path: Path
) -> None:
    client.create_study(DOCUMENT)
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
