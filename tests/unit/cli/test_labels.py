"""Accuracy against labels used, and what a trial's record says, as the command line tells it."""

import json
from typing import Any

import pytest

from tests.support.records import a_record
from tests.unit.cli.played_service import STUDY, TRIAL, Played
from trimtab.cli import app


def _record(labels_used: int, **changes: Any) -> dict[str, Any]:
    return json.loads(a_record(labels_used=labels_used, **changes).model_dump_json())


def _trials(service: Played, *trials: tuple[int | None, float]) -> None:
    listed: list[dict[str, Any]] = []
    for number, (shots, value) in enumerate(trials):
        trial = TRIAL | {"number": number, "value": value, "hyperparameters": {"shots": shots}}
        whole = trial | {"record": _record(600 if shots is None else 10)}
        service.answer(f"GET /v1/studies/digits/trials/{number}", whole)
        listed.append(trial)
    service.answer("GET /v1/studies/digits", STUDY)
    service.answer("GET /v1/studies/digits/trials", {"trials": listed, "next_page_token": None})


def test_each_number_of_labels_has_its_best_and_its_median_trial(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    _trials(service, (None, 0.9), (5, 0.5), (5, 0.8), (None, 0.7), (5, 0.6))
    assert app.run(["study", "labels", "digits", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "study": "digits",
        "metric": "accuracy",
        "rows": [
            {"shots": 5, "labels": 10, "trials": 3, "best": 0.8, "median": 0.6},
            {"shots": None, "labels": 600, "trials": 2, "best": 0.9, "median": 0.8},
        ],
    }
    assert app.run(["study", "labels", "digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.strip()][-2:] == [
        ["5", "10", "3", "80.00", "%", "60.00", "%"],
        ["all", "600", "2", "90.00", "%", "80.00", "%"],
    ]


def test_a_study_without_a_completed_trial_has_no_rows(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    _trials(service)
    assert app.run(["study", "labels", "digits", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == []


def test_a_trials_record_is_shown_with_what_was_left_out(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"count": 20, "first": ("conv1",)}
    none = {"count": 0}
    record = _record(
        10,
        classes=13,
        class_counts=({"name": "cat", "train": 30, "validation": 10, "test": 10},) * 13,
        skipped={"count": 1, "first": ({"path": "cat/a.png", "reason": "cut short"},)},
        left_out=(
            {"reason": "hidden", "count": 1, "first": ("cat/.old",)},
            {
                "reason": "not a picture that can be read",
                "count": 9,
                "first": ("a.txt", "b.txt"),
            },
        ),
        duplicates={"copies": 3, "across_splits": 1, "conflicting_labels": 2},
        weights={
            "source": "w.pth",
            "part": "model_ema",
            "matched": names,
            "left_out": {"count": 2},
            "head": True,
            "quantised": {"count": 4},
            "missing": none,
            "unused": none,
        },
    )
    service.answer("GET /v1/studies/digits/trials/3", TRIAL | {"record": record})
    assert app.run(["trial", "show", "digits", "3"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "60 train, 20 validation, 20 test",
        "cat: 30 train, 10 validation, 10 test",
        "and 3 more classes",
        "labels used 10",
        "bad files left out 1",
        "cat/a.png: cut short",
        "left out 1 hidden: cat/.old left out 9 not a picture that can be read: a.txt, b.txt, ...",
        "3; in several splits: 1; under several labels: 2",
        "20 tensors of w.pth (model_ema), 2 left out (of another shape, or a head for other classes), 4 left out as "
        "quantised, its own head kept by the names of the classes",
        "a note",
        "cpu, float32, torch 2.15.0, 2 threads",
    ):
        assert words in said
