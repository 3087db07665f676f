"""The main job through every room: real service process, real Postgres, real worker, real training."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image
from sqlalchemy import text

from service.storage.engine import Database
from tests.support.documents import a_study_document
from tests.support.workers import a_worker, server_of
from trimtab.client import Client
from trimtab.contract.events import Event
from trimtab.contract.studies import Study

TRIALS, EPOCHS = 4, 3
REAL = "worker.runner"
PREDICT = (sys.executable, "-P", "-m", "worker", "predict")

DOCUMENT = a_study_document(
    name="digits",
    fixed={"epochs": EPOCHS},
    search={"sampler": "tpe", "pruner": "median"},
    budget={"trials": TRIALS},
    lease_ttl_s=3,
)


def _follow(client: Client) -> list[Event]:
    """Every event of the study until it is done."""
    return list(client.events("digits"))


def _check_the_books(client: Client, database: Database, study: Study) -> None:
    assert study.state == "done"
    assert study.trials_created == TRIALS
    trials = client.trials("digits").trials
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} <= {"completed", "pruned"}
    for number in range(TRIALS):
        outcomes = [attempt.outcome for attempt in client.trial("digits", number).attempts]
        settled = [
            one for one in outcomes if one in ("completed", "pruned", "failed", "cancelled")
        ]
        assert len(settled) == 1, f"trial {number} was settled once, not by {outcomes}"
    told = optuna.load_study(
        study_name="digits", storage=database.engine.url.render_as_string(hide_password=False)
    )
    assert [trial.state.is_finished() for trial in told.trials] == [True] * TRIALS
    assert study.best is not None
    assert told.best_value == study.best.validation_accuracy
    with database.statements() as connection:
        assert not connection.execute(
            text("SELECT count(*) FROM trimtab.attempts WHERE ended_at IS NULL")
        ).scalar_one()


def test_a_study_ends_with_a_tested_and_exported_model(
    client: Client, database: Database, tmp_path: Path
) -> None:
    client.create_study(DOCUMENT)
    with a_worker(server_of(client), tmp_path / "cache", "--device", "cpu", runner=REAL):
        kinds = [event.kind for event in _follow(client)]
    study = client.study("digits")
    _check_the_books(client, database, study)
    assert kinds.count("trial_started") == TRIALS
    assert kinds.count("final_started") == kinds.count("final_settled") == 1
    assert kinds.count("final_test_opened") == 1
    assert kinds.index("final_test_opened") > kinds.index("final_started")
    assert study.final is not None
    assert study.final.test_count == 359  # a fifth of the 1,797 digits, stratified
    assert study.final.test_accuracy_before is not None
    assert study.final.test_accuracy is not None
    assert study.final.test_accuracy > study.final.test_accuracy_before
    model = client.download_model("digits", tmp_path / "digits.safetensors")
    answer = subprocess.run(
        [*PREDICT, "--model", str(model), "--json", "--builtin", "digits", "--index", "7"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "7" in answer.stdout


def test_a_worker_killed_in_mid_epoch_costs_no_trial(
    client: Client, database: Database, tmp_path: Path
) -> None:
    client.create_study(DOCUMENT)
    events = client.events("digits")
    with a_worker(
        server_of(client), tmp_path / "first", "--device", "cpu", runner=REAL
    ) as first:
        for event in events:
            if event.kind == "reported":
                break
        first.send(signal.SIGKILL)
        first.wait()
    with a_worker(server_of(client), tmp_path / "second", "--device", "cpu", runner=REAL):
        later = list(events)
    _check_the_books(client, database, client.study("digits"))
    expired = [event for event in later if event.body.get("outcome") == "expired"]
    assert [event.kind for event in expired] == ["trial_queued"]
    (again,) = [event for event in later if event.kind == "trial_resumed"]
    assert again.trial_number == expired[0].trial_number
    assert client.trial("digits", again.trial_number or 0).crashes == 1


def _bars(folder: Path, count: int) -> Path:
    """Pictures of a bright bar, and a table of its height in millimetres, 20 to a pixel."""
    random = np.random.default_rng(0)
    lines = ["image,height"]
    folder.mkdir()
    for number in range(count):
        height = int(random.integers(1, 9))
        pixels = random.integers(0, 60, (8, 8), dtype=np.uint8)
        pixels[8 - height :, 2:6] += 180
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{20 * height - 20}")
    table = folder / "bars.csv"
    table.write_text("\n".join(lines))
    return table


@pytest.mark.slow
def test_a_study_of_numbers_ends_with_a_model_that_predicts_in_their_unit(
    client: Client, tmp_path: Path
) -> None:
    table = _bars(tmp_path / "bars", 200)
    dataset = {"kind": "csv", "path": str(table), "targets": ["height"]}
    document = a_study_document(
        name="bars",
        task={"kind": "regression", "dataset": dataset},
        space={
            "learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "head": {"kind": "choices", "choices": ["linear", "mlp"]},
            "regression_loss": {"kind": "choices", "choices": ["mse", "huber"]},
        },
        fixed={"epochs": 8},
        search={"sampler": "tpe", "pruner": {"kind": "median", "startup_trials": 2}},
        budget={"trials": 5},
    )
    client.create_study(document)
    with a_worker(server_of(client), tmp_path / "cache", "--device", "cpu", runner=REAL):
        for _ in client.events("bars"):
            pass
    best = client.best("bars")
    completed = client.trials("bars", state="completed").trials
    assert best.trial.objective == "rmse"
    assert best.trial.value == min(
        trial.value for trial in completed if trial.value is not None
    )
    assert best.trial.validation_accuracy is None
    deviation = 20 * np.std(range(8))
    assert best.final is not None
    assert best.final.test_value < deviation / 3
    assert best.final.test_value_before is not None
    assert best.final.test_value < best.final.test_value_before
    assert best.final.metrics["test_r2"] > 0.85
    model = client.download_model("bars", tmp_path / "bars.safetensors")
    answer = subprocess.run(
        [*PREDICT, "--model", str(model), "--json", str(tmp_path / "bars" / "0.png")],
        capture_output=True,
        text=True,
        check=True,
    )
    true = float(table.read_text().splitlines()[1].split(",")[1])
    assert abs(json.loads(answer.stdout)["targets"]["height"]["value"] - true) < deviation
