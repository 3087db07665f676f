"""Constraints and two objectives through every room: real service, real Postgres, real worker, real training."""

import subprocess
import sys
from pathlib import Path

import optuna

from service.storage.engine import Database
from tests.support.documents import a_study_document
from tests.support.workers import a_worker, server_of
from trimtab.client import Client

REAL = "worker.runner"
HEADS = {"head": {"kind": "choices", "choices": ["mlp", "linear"]}}
MOST_PARAMETERS = 150_000
"""Between glyphnet with a linear head and with one of a hidden layer."""


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def cli(client: Client, *words: str) -> str:
    told = subprocess.run(
        [sys.executable, "-m", "trimtab.cli", "--server", server_of(client), *words],
        capture_output=True,
        check=True,
        text=True,
    )
    return told.stdout


def test_the_model_that_is_handed_over_keeps_the_constraints(
    client: Client, database: Database, tmp_path: Path
) -> None:
    document = a_study_document(
        name="small",
        space=HEADS,
        fixed={"epochs": 1, "head_width": 1024, "frozen_stages": 9},
        search={"sampler": "grid", "pruner": "none"},
        constraints=[
            {"metric": "parameters", "max": MOST_PARAMETERS},
            {"metric": "latency_ms", "max": 10_000},
        ],
        budget={"trials": 2},
    )
    client.create_study(document)
    with a_worker(server_of(client), tmp_path / "cache", "--device", "cpu", runner=REAL):
        list(client.events("small"))
    mlp, linear = (client.trial("small", number) for number in range(2))
    assert mlp.hyperparameters["head"] == "mlp"
    assert mlp.measured["parameters"] > MOST_PARAMETERS > linear.measured["parameters"]
    assert (mlp.state, mlp.curve) == ("pruned", ())
    assert (mlp.feasible, linear.feasible) == (False, True)
    assert 0 < linear.measured["latency_ms"] < 10_000
    assert linear.measured["accuracy"] == linear.value
    best = client.best("small")
    assert best.trial.number == 1
    assert best.final is not None
    assert [(one.violated, one.untrained) for one in best.constraints] == [(0, 1), (0, 0)]
    assert "parameters <= 150000: 0 of 1 trials violate it, 1 more were not trained" in cli(
        client, "study", "best", "small"
    )
    shown = cli(client, "trial", "show", "small", "0")
    assert "violates parameters by" in shown
    assert "not trained: its model has parameters =" in " ".join(shown.split())
    study = optuna.load_study(study_name="small", storage=url_of(database))
    assert study.best_trial.number == 1


def test_two_objectives_end_with_the_front_that_optuna_finds_too(
    client: Client, database: Database, tmp_path: Path
) -> None:
    widths = {"head_width": {"kind": "int", "low": 8, "high": 64}}
    document = a_study_document(
        name="both",
        space=widths,
        fixed={"epochs": 1, "head": "mlp", "frozen_stages": 9},
        search={"sampler": "gp", "pruner": "none", "initial_trials": 4},
        objectives=[{"metric": "accuracy"}, {"metric": "parameters", "direction": "minimize"}],
        budget={"trials": 7},
        finish={"refit": False},
    )
    client.create_study(document)
    with a_worker(server_of(client), tmp_path / "cache", "--device", "cpu", runner=REAL):
        list(client.events("both"))
    front = client.pareto("both")
    numbers = {one.number for one in front.trials}
    study = optuna.load_study(study_name="both", storage=url_of(database))
    assert [one.name for one in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["validation_accuracy", "parameters"]
    assert {one.number for one in study.best_trials} == numbers
    assert "gp" in {client.trial("both", number).proposed_by for number in range(7)}
    best = client.best("both")
    assert best.trial.number == front.trials[0].number
    assert best.final is not None
    told = cli(client, "study", "pareto", "both")
    assert f"{front.trials[0].values['parameters']:,.0f}" in told
