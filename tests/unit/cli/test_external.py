"""The command line on studies whose trials loops of a person's own train: they end without a model of ours, and well."""

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
