"""What `study best` tells at a study's end: which model, why, and how far its numbers can be trusted."""

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from tests.unit.cli.played_service import BEST, STUDY
from trimtab.cli import figures, report, tables
from trimtab.contract.final_report import Interval
from trimtab.contract.studies import Best, Study

REPORT: dict[str, Any] = {
    "handed_over": "refit",
    "why": "Trial 3 is the best.\x1b[2J Its recipe was trained anew.",
    "candidates": [
        {
            "kind": "winner",
            "validation_value": 0.9625,
            "test": {"value": 0.96, "low": 0.935, "high": 0.976},
            "trials": [3],
        },
        {
            "kind": "refit",
            "validation_value": 0.9625,
            "test": {"value": 0.97, "low": 0.947, "high": 0.983},
            "trials": [3],
        },
        {"kind": "linear_probe", "validation_value": 0.9},
    ],
    "test": {"value": 0.97, "low": 0.947, "high": 0.983},
    "corrected": {
        "value": {"value": 0.951, "low": 0.92, "high": 0.975},
        "first": 0.94,
        "gain": {"value": 0.011, "low": -0.004, "high": 0.03},
        "trials": 4,
        "samples": 500,
    },
    "averaged_epochs": 3,
    "classes": [
        {"name": str(digit), "count": 36, "recall": 1 - digit / 100, "precision": 0.5}
        for digit in range(10)
    ],
    "confusion": [
        {"is_class": "8", "told_as": str(other), "count": 30 - other} for other in range(8)
    ],
}


def drawn(view: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def best(**changes: Any) -> str:
    final = {**BEST["final"], "report": {**REPORT, **changes}}
    return drawn(tables.best(Best.model_validate({**BEST, "final": final}, strict=False)))


def line(text: str, name: str) -> str:
    """Return what stands behind the name of a fact."""
    return next(
        one.strip().removeprefix(name).strip()
        for one in text.splitlines()
        if one.strip().startswith(name)
    )


def test_best_tells_what_is_handed_over_and_why() -> None:
    text = best()
    told = "the best trial's recipe, trained on train and validation"
    assert line(text, "handed over") == told
    assert "Trial 3 is the best." in line(text, "why")
    assert "\x1b" not in text


def test_values_have_their_intervals_and_the_corrected_one_stands_beside_the_naive_one() -> (
    None
):
    text = best()
    assert line(text, "test accuracy") == "97.00 %, 95 % interval 94.70 to 98.30 %"
    assert line(text, "validation accuracy") == "96.25 %"
    assert line(text, "measured as") == "the mean of the last 3 epochs"
    told = "95.10 %, 95 % interval 92.00 to 97.50 %"
    assert line(text, "validation corrected") == told


@pytest.mark.parametrize(
    ("low", "told"),
    [
        (-0.004, "+1.10 points, 95 % interval -0.40 to +3.00: not shown to be better"),
        (0.004, "+1.10 points, 95 % interval +0.40 to +3.00"),
    ],
)
def test_a_gain_is_told_to_be_one_only_where_its_interval_is_above_0(
    low: float, told: str
) -> None:
    gain = {"value": 0.011, "low": low, "high": 0.03}
    text = best(corrected={**REPORT["corrected"], "gain": gain})
    assert line(text, "gain over the first trial") == told


def test_a_study_of_one_trial_has_no_gain() -> None:
    text = best(corrected={**REPORT["corrected"], "trials": 1})
    assert "gain over" not in text


def test_what_was_not_corrected_says_why() -> None:
    text = best(corrected=None, why_not_corrected="the split is too small")
    assert line(text, "validation corrected") == "not for the choice: the split is too small"


def test_the_candidates_and_the_five_worst_classes_and_pairs_are_told() -> None:
    rows = [one.split() for one in best().splitlines()]
    refit = report.MODELS["refit"].split()
    assert [*refit, "3", "96.25", "%", "97.00", "%,", "95", "%"] in [one[:16] for one in rows]
    classes = [one[:3] for one in rows if one[-1:] == ["36"]]
    assert classes == [[str(n), f"{100 - n}.00", "%"] for n in (9, 8, 7, 6, 5)]
    assert [one for one in rows if one[:1] == ["8"] and len(one) == 3] == [
        ["8", str(other), str(30 - other)] for other in range(5)
    ]


def test_a_class_names_its_target_and_classes_without_misses_are_not_the_worst() -> None:
    whole = {"name": "yes", "target": "large", "count": 5, "recall": 1.0, "precision": 1.0}
    text = best(classes=[whole, {**whole, "name": "no", "recall": 0.5}])
    assert "large: no" in text
    assert "large: yes" not in text
    assert "class of the lowest recall" not in best(classes=[whole])


def test_a_study_tells_in_a_line_what_is_handed_over() -> None:
    final = {**STUDY["final"], "report": REPORT}
    answer = Study.model_validate({**STUDY, "final": final}, strict=False)
    text = drawn(tables.study(answer))
    assert line(text, "handed over") == report.MODELS["refit"]
    assert "95 % interval 94.70 to 98.30 %" in text
    assert "validation corrected" not in text


def test_a_study_of_an_older_release_shows_its_scores_alone() -> None:
    text = drawn(tables.best(Best.model_validate(BEST)))
    assert line(text, "test accuracy") == "97.00 %"
    assert "handed over" not in text


def test_an_interval_of_no_width_is_told_to_be_none() -> None:
    found = Interval(value=1.0, low=1.0, high=1.0)
    assert (
        figures.interval("balanced_accuracy", found)
        == "100.00 %, no interval: too few rows, or all alike"
    )
    told = figures.gain("rmse", Interval(value=0.5, low=0.25, high=0.75))
    assert told == "+0.5, 95 % interval +0.25 to +0.75"
