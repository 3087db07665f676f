"""Why trials stopped, as the command line tells it."""

import json
from typing import Any

import httpx2
import pytest

from tests.unit.cli.played_service import STUDY, TRIAL, Played
from trimtab.cli import app, explain
from trimtab.cli.paging import every_trial
from trimtab.client import Client
from trimtab.contract.reasons import Reason
from trimtab.contract.trials import Trial

WHY = "Its best value 0.5 after 1 epoch is below the median 0.9 of 5 completed trials at that point."
MEDIAN = {"rule": "median", "text": WHY, "epoch": 1}


def _study(service: Played, *trials: dict[str, Any]) -> None:
    listed = [TRIAL | {"number": number} | trial for number, trial in enumerate(trials)]
    service.answer("GET /v1/studies/digits", STUDY)
    service.answer("GET /v1/studies/digits/trials", {"trials": listed, "next_page_token": None})


def _explained(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert app.run(["study", "explain", "digits", "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def _trial(number: int, value: float | None, rule: str | None) -> Trial:
    reason = None if rule is None else Reason(rule=rule, text="why")
    return Trial.model_validate(TRIAL | {"number": number, "value": value}).model_copy(
        update={"reason": reason}
    )


def test_stops_and_pauses_are_counted_by_the_rule_that_decided(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = {"state": "pruned", "value": None, "proposed_by": "tpe"}
    paused = {"state": "paused", "value": None, "reason": {"rule": "asha", "text": "Others."}}
    _study(service, {"proposed_by": "prior"}, *[stopped | {"reason": MEDIAN}] * 2, paused)
    told = _explained(capsys)
    assert told["decisions"] == [
        {"rule": "median", "state": "pruned", "trials": 2},
        {"rule": "asha", "state": "paused", "trials": 1},
    ]
    assert told["origins"] == {"prior": 1, "tpe": 2, "not told": 1}
    assert (told["sampler"], told["pruner"]["kind"]) == ("tpe", "median")
    assert (told["epochs"], told["epochs_saved"]) == (30, 10)
    assert told["audit"] is None


def test_a_trial_that_an_older_release_stopped_is_counted_without_a_rule(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    _study(service, {"state": "pruned", "value": None})
    assert _explained(capsys)["decisions"] == [
        {"rule": "not told", "state": "pruned", "trials": 1}
    ]


def test_each_trial_is_told_with_how_far_it_came_and_why(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    promised = MEDIAN | {"expected": {"value": 0.8, "low": 0.75, "high": 0.85}}
    _study(service, {}, {"state": "pruned", "value": None, "reason": promised})
    first, second = _explained(capsys)["trials"]
    assert (first["number"], first["state"], first["value"]) == (0, "completed", 0.91)
    assert first["reason"] is None
    assert (second["epochs"], second["value"]) == (3, 0.91)
    assert second["reason"]["text"] == WHY


def test_a_person_reads_a_summary_and_a_line_for_each_trial(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    promised = MEDIAN | {"expected": {"value": 0.8, "low": 0.75, "high": 0.85}}
    audited = {"reason": MEDIAN | {"rule": "audit"}, "value": 0.95}
    _study(service, {"state": "pruned", "value": None, "reason": promised}, audited)
    assert app.run(["study", "explain", "digits"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "sampler tpe, pruner median (startup_trials 5, min_trials 1)",
        "proposed by: not told 2",
        "epochs: 30 trained, 10 saved by stopping early (25%)",
        "median: 1 pruned",
        "audit: 1 completed",
        "audit: 1 trial ran on where the search would have stopped or paused it, 1 completed, and 1 ended among the best tenth",
    ):
        assert words in said


def test_earlier_studies_are_told_with_distance_its_parts_and_how_their_points_did(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"size": 0.5, "classes": 0.0, "features": None}
    near = {"study": "flowers", "distance": 1.118, "parts": parts, "points": 2}
    far: dict[str, Any] = {"study": "roses", "distance": 3.0, "parts": {}, "points": 0}
    lost = far | {"study": "noise", "guesses": True}
    document = STUDY["document"] | {"starts": [], "transferred": [near, far, lost]}
    given = {"proposed_by": "study:flowers"}
    _study(service, {"value": 0.95}, given | {"value": 0.9}, given | {"value": 0.92})
    service.answer("GET /v1/studies/digits", STUDY | {"document": document})
    first, second, third = _explained(capsys)["transferred"]
    assert (first["trials"], first["best"], first["place"]) == ([1, 2], 0.92, 2)
    assert (second["trials"], second["best"], second["place"]) == ([], None, None)
    assert app.run(["study", "explain", "digits"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "from flowers, at distance 1.12 (size 0.50, classes 0.00, features not known): "
        "gave 2 points, trial 1, 2; the best came to 92.00 %, place 2 of all"
    ) in said
    assert "from roses, at distance 3.00 (): gave nothing new that fits this space" in said
    assert third["guesses"] is True
    assert "from noise, at distance 3.00 (): gave nothing, as its best accuracy is no" in said


def test_what_is_still_to_be_transferred_is_said_to_come(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    _study(service, {})
    service.answer(
        "GET /v1/studies/digits", STUDY | {"document": STUDY["document"] | {"starts": []}}
    )
    assert _explained(capsys)["transferred"] is None
    assert app.run(["study", "explain", "digits"]) == 0
    assert "chosen when the first trial has told its data" in capsys.readouterr().out


def test_one_trial_is_shown_with_why_it_stopped_and_what_was_expected(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    promised = MEDIAN | {"expected": {"value": 0.8, "low": 0.75, "high": 0.85}}
    service.answer("GET /v1/studies/digits/trials/3", TRIAL | {"reason": promised})
    assert app.run(["trial", "show", "digits", "3"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"why {WHY}" in said
    assert "expected 80.00 % (75.00 to 85.00 %)" in said


def test_a_stop_is_wrong_where_the_trial_ends_among_the_best_tenth() -> None:
    others = [_trial(n, 0.01 * n, None) for n in range(18)]
    best, middling = _trial(18, 0.9, "audit"), _trial(19, 0.05, "audit")
    running = _trial(20, None, "audit")
    found = explain.audit([*others, best, middling, running], "maximize")
    assert found == explain.Audit(audited=3, completed=2, wrong=1)
    # Of twenty the best two: 0.9 and 0.17, or where less is better 0.0 and 0.01.
    assert explain.audit([*others, best, middling], "minimize") == explain.Audit(
        audited=2, completed=2, wrong=0
    )


def test_of_few_completed_trials_the_best_one_is_the_best_tenth() -> None:
    trials = [_trial(0, 0.5, None), _trial(1, 0.5, "audit"), _trial(2, 0.4, "audit")]
    assert explain.audit(trials, "maximize") == explain.Audit(audited=2, completed=2, wrong=1)


def test_where_none_was_audited_or_none_has_ended_nothing_is_claimed() -> None:
    assert explain.audit([_trial(0, 0.5, "median")], "maximize") is None
    assert explain.audit([_trial(0, None, "audit")], "maximize") == explain.Audit(
        audited=1, completed=0, wrong=0
    )


def test_all_pages_of_trials_are_read() -> None:
    pages = iter(
        [
            {"trials": [TRIAL | {"number": 0}], "next_page_token": "next"},
            {"trials": [TRIAL | {"number": 1}], "next_page_token": None},
        ]
    )
    with Client(
        "http://service.test",
        transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json=next(pages))),
    ) as client:
        assert [one.number for one in every_trial(client, "digits")] == [0, 1]


def test_what_auto_chose_is_told_with_its_reason(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    search = {"sampler": "gp", "pruner": {"kind": "freeze_thaw"}, "auto_reason": "Bounded."}
    document = STUDY["document"] | {"search": search}
    _study(service, {})
    service.answer("GET /v1/studies/digits", STUDY | {"document": document})
    assert _explained(capsys)["auto_reason"] == "Bounded."
    assert app.run(["study", "explain", "digits"]) == 0
    said = capsys.readouterr().out
    assert "sampler gp, pruner freeze_thaw" in said
    assert "chosen by auto: Bounded." in said
