"""The command line on studies whose trials loops of a person's own train: they end without a model of ours, and well."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.own_loops import an_external_document
from tests.unit.cli.played_service import BEST, STUDY, Played
from trimtab.cli import app

OWN: dict[str, Any] = {
    **STUDY,
    "document": an_external_document("digits").model_dump(mode="json"),
    "state": "done",
    "final": None,
}


def test_watching_a_study_of_ones_own_loops_ends_well(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("GET /v1/studies/digits", OWN)
    service.stream("digits", ("study_done", None))
    assert app.run(["study", "show", "digits", "--watch"]) == 0
    assert "study done" in capsys.readouterr().out


def test_watching_one_in_which_nothing_completed_fails(service: Played) -> None:
    service.answer("GET /v1/studies/digits", {**OWN, "best": None})
    service.stream("digits", ("study_done", None))
    assert app.run(["study", "show", "digits", "--watch"]) == 1


def test_the_best_trial_of_ones_own_loops_is_shown(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    of_loops = {"state": "done", "final": None, "model": None, "recipe": None}
    service.answer("GET /v1/studies/digits/best", {**BEST, **of_loops})
    assert app.run(["study", "best", "digits"]) == 0
    told = capsys.readouterr()
    assert "without a tested model" not in told.err
    # What a loop measures on is its own affair: nobody calls it validation.
    assert "objective accuracy" in told.out
    service.answer("GET /v1/studies/digits", OWN)
    assert app.run(["study", "show", "digits"]) == 0
    told_of_the_study = capsys.readouterr().out
    assert "objective accuracy" in told_of_the_study
    assert "validation" not in told.out + told_of_the_study


OF_LOOPS: dict[str, Any] = {
    **BEST,
    "state": "done",
    "final": None,
    "model": None,
    "recipe": None,
}


def test_what_the_best_trials_loop_saved_last_is_fetched(
    service: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = hashlib.sha256(b"state").hexdigest()
    kept = {"step": 4, "sha256": sha256, "bytes": 5}
    service.answer("GET /v1/studies/digits/best", {**OF_LOOPS, "checkpoint": kept})
    service.answer(f"GET /v1/artifacts/{sha256}", b"state")
    path = tmp_path / "best.pt"
    assert app.run(["study", "best", "digits", "--checkpoint", str(path)]) == 0
    assert path.read_bytes() == b"state"
    assert capsys.readouterr().err.startswith("saved ")


@pytest.mark.parametrize(
    ("best", "told"),
    [
        (OF_LOOPS, "The loop of trial 3, the best one, has saved no checkpoint"),
        (BEST, "Workers train this study"),
    ],
)
def test_where_no_loop_saved_anything_that_is_told(
    service: Played,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    best: dict[str, Any],
    told: str,
) -> None:
    service.answer("GET /v1/studies/digits/best", best)
    path = tmp_path / "best.pt"
    assert app.run(["study", "best", "digits", "--checkpoint", str(path)]) == 1
    assert told in " ".join(capsys.readouterr().err.split())
    assert not path.exists()
