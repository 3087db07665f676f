"""`trimtab study import`, with the process that reads the storage."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.unit.cli.played_service import Played
from trimtab.cli import app

REPORT = {
    "name": "old",
    "source": "theirs",
    "direction": "minimize",
    "complete": 1,
    "pruned": 0,
    "failed": 0,
    "zombies": 2,
    "left_out": 3,
    "usable": 1,
    "names": ["learning_rate"],
    "strange_names": ["mood"],
    "changed_names": ["momentum"],
}


def words(storage: Path, *more: str) -> list[str]:
    return ["study", "import", "--storage", str(storage), "--study", "theirs", *more]


def test_a_study_is_read_here_and_what_came_in_is_told(
    service: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal.log"
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))), study_name="theirs"
    )
    trial = study.ask()
    trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    study.tell(trial, 0.5)
    service.answer("POST /v1/imports", REPORT)
    assert app.run(words(path, "--as", "old", "--rename", "lr=learning_rate")) == 0
    sent = json.loads(service.bodies[-1])
    assert (sent["name"], sent["source"], len(sent["trials"])) == ("old", "theirs", 1)
    assert list(sent["trials"][0]["params"]) == ["learning_rate"]
    said = " ".join(capsys.readouterr().out.split())
    for line in (
        "imported theirs as old: 1 complete, 0 pruned, 0 failed",
        "usable to begin other studies with: 1 trials, by learning_rate",
        "zombies: 2 stood as running",
        "left out: 3 that wait or still run",
        "no counterpart here: mood",
        "ranges that changed midway: momentum",
    ):
        assert line in said


def test_a_storage_that_cannot_be_read_is_a_failure_with_its_reason(
    service: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(words(tmp_path / "none.db")) == 1
    assert "There is no file" in " ".join(capsys.readouterr().err.split())


def test_a_new_name_without_an_old_one_is_wrong_usage(service: Played, tmp_path: Path) -> None:
    assert app.run(words(tmp_path, "--rename", "lr")) == 2
