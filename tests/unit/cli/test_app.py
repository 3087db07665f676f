"""The command line as a person meets it: what it prints where, and how it ends."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import stamina

from tests.unit.cli.played_service import BEST, STUDIES, STUDY, TRIAL, TRIALS, Played
from tests.unit.cli.test_study_documents import GOOD
from trimtab.cli import app, terminal, up
from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.message import Message
from trimtab.contract.studies import Best, Study, StudyPage
from trimtab.contract.trials import Trial, TrialPage


@pytest.fixture(autouse=True)
def no_pause_between_retries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1):
        yield


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played()

    def client(_: terminal.Terminal, patience_s: float = 0.0) -> Client:
        played.patience_s.append(patience_s)
        return Client("http://service.test", transport=httpx2.MockTransport(played.handle))

    monkeypatch.setattr(terminal.Terminal, "client", client)
    return played


@pytest.fixture
def study_file(tmp_path: Path) -> str:
    file = tmp_path / "study.yaml"
    file.write_text(GOOD)
    return str(file)


def test_global_options_may_stand_anywhere() -> None:
    assert app.hoist(
        ["study", "list", "-o", "json", "--server=http://x", "--page-size", "3"]
    ) == [
        "-o",
        "json",
        "--server=http://x",
        "study",
        "list",
        "--page-size",
        "3",
    ]
    assert app.hoist(["predict", "--", "-o", "x.png"]) == ["predict", "--", "-o", "x.png"]


def test_without_a_service_the_exit_code_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--server", "http://127.0.0.1:1", "study", "list"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "Service unreachable" in said.err
    assert "http://127.0.0.1:1" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["study", "lst"],
        ["study", "show"],
        ["trial", "show", "digits", "one"],
        ["trial", "list", "digits", "--state", "lost"],
        ["study", "list", "--page-size", "0"],
        ["study", "edit", "digits"],
        ["trial", "add", "digits", "--set", "learning_rate"],
        ["trial", "add", "digits", "--set", "=1e-3"],
        ["trial", "add", "digits", "--set", "a=1", "--set", "a=2"],
        ["trial", "add", "digits", "--set", "a=[1]"],
        ["trial", "add", "digits", "--set", "a=NaN"],
        ["trial", "stop", "digits", "-1"],
        ["study", "edit", "digits", "--trials", "0"],
        ["study", "edit", "digits", "--wall-time-s", "soon"],
        ["study", "edit", "digits", "--wall-time-s", "inf"],
        ["study", "edit", "digits", "--wall-time-s", "-5"],
        ["study", "edit", "digits", "--epochs", "1.5"],
        ["study", "edit", "digits", "--no-progress-trials", "0"],
        ["study", "edit", "digits", "--parallel", "0"],
        ["study", "edit", "digits", "--parallel", "1.5"],
        ["study", "edit", "digits", "--gpu-memory-gb", "0"],
        ["study", "edit", "digits", "--gpu-memory-gb", "large"],
        ["-o", "yaml", "study", "list"],
        ["predict", "--model", "m.safetensors"],
        ["predict", "--model", "m.safetensors", "--builtin", "digits", "a.png"],
        ["pretrain", "cats", "--out", "x"],
        ["server", "--port", "70000"],
        ["nonsense"],
    ],
)
def test_wrong_usage_has_exit_code_2_and_says_where_help_is(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(arguments) == 2
    assert "--help" in capsys.readouterr().err


def test_up_for_others_needs_the_folders_that_workers_may_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: object) -> None:
        raise problems.Unavailable("it was let through")

    monkeypatch.setattr(up, "start", start)
    monkeypatch.delenv("TRIMTAB_WORKER_ROOTS", raising=False)
    assert app.run(["up", "--host", "0.0.0.0"]) == 2
    assert "TRIMTAB_WORKER_ROOTS" in capsys.readouterr().err
    for let_through in (["--workers", "0", "--host", "0.0.0.0"], ["--host", "127.0.0.1"]):
        assert app.run(["up", *let_through]) != 2
    monkeypatch.setenv("TRIMTAB_WORKER_ROOTS", "/data")
    assert app.run(["up", "--host", "0.0.0.0"]) != 2


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("trimtab ")


def test_a_faulty_document_never_reaches_the_network(
    tmp_path: Path, service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(GOOD.replace("low: 1e-5", "low: 5"))
    assert app.run(["study", "create", "-f", str(file)]) == 1
    assert "/space/learning_rate: low must not be above high" in capsys.readouterr().err
    assert service.seen == []


def test_a_study_is_created_and_shown(
    study_file: str, service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("POST /v1/studies", STUDY)
    assert app.run(["study", "create", "-f", study_file]) == 0
    assert "digits" in capsys.readouterr().out


def test_an_existing_name_is_refused_with_a_hint(
    study_file: str, service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.refuse("POST /v1/studies", problems.StudyExists())
    assert app.run(["study", "create", "-f", study_file]) == 1
    said = capsys.readouterr().err
    assert "A study with this name exists already." in said
    assert "hint: choose another `name`" in said


@pytest.mark.parametrize(
    ("arguments", "request_line", "message", "answer"),
    [
        (["study", "list"], "GET /v1/studies", StudyPage, STUDIES),
        (["study", "show", "digits"], "GET /v1/studies/digits", Study, STUDY),
        (["study", "best", "digits"], "GET /v1/studies/digits/best", Best, BEST),
        (["study", "pause", "digits"], "POST /v1/studies/digits:pause", Study, STUDY),
        (["study", "resume", "digits"], "POST /v1/studies/digits:resume", Study, STUDY),
        (["study", "stop", "digits"], "POST /v1/studies/digits:stop", Study, STUDY),
        (
            ["study", "edit", "digits", "--trials", "9"],
            "PATCH /v1/studies/digits",
            Study,
            STUDY,
        ),
        (["study", "rebase", "digits"], "POST /v1/studies/digits:rebase", Study, STUDY),
        (["study", "cancel", "digits"], "POST /v1/studies/digits:cancel", Study, STUDY),
        (["trial", "list", "digits"], "GET /v1/studies/digits/trials", TrialPage, TRIALS),
        (["trial", "add", "digits"], "POST /v1/studies/digits/trials", Trial, TRIAL),
        (
            ["trial", "stop", "digits", "3"],
            "POST /v1/studies/digits/trials/3:stop",
            Trial,
            TRIAL,
        ),
        (
            ["trial", "retry", "digits", "3"],
            "POST /v1/studies/digits/trials/3:retry",
            Trial,
            TRIAL,
        ),
        (["trial", "show", "digits", "3"], "GET /v1/studies/digits/trials/3", Trial, TRIAL),
    ],
)
def test_every_answer_can_be_had_as_a_table_and_as_json(
    arguments: list[str],
    request_line: str,
    message: type[Message],
    answer: dict[str, Any],
    service: Played,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service.answer(request_line, answer)
    assert app.run(arguments) == 0
    assert capsys.readouterr().out.strip()
    assert app.run([*arguments, "-o", "json"]) == 0
    shown = message.model_validate_json(capsys.readouterr().out)
    assert shown == message.model_validate(answer)


def test_the_hash_of_a_model_is_one_word_in_a_terminal_of_any_width(
    service: Played, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    service.answer("GET /v1/studies/digits", STUDY)
    assert app.run(["study", "show", "digits"]) == 0
    assert STUDY["final"]["model_sha256"] in capsys.readouterr().out.split()


def test_a_study_that_was_taken_up_again_tells_its_earlier_scores_and_that_the_test_split_was_open(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    final = {**STUDY["final"], "test_value": 0.98, "test_opened_before": 1}
    service.answer(
        "GET /v1/studies/digits/best",
        {**BEST, "final": final, "earlier_finals": [STUDY["final"]]},
    )
    assert app.run(["study", "best", "digits"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "test split opened once before: if a score was seen" in told
    assert "test accuracy, earlier end 97.00 %" in told
    service.answer(
        "GET /v1/studies/digits", {**STUDY, "final": None, "earlier_finals": [final]}
    )
    assert app.run(["study", "show", "digits"]) == 0
    assert "earlier end" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["--wall-time-s", "none"], {"wall_time_s": "none"}),
        (["--wall-time-s", "90"], {"wall_time_s": 90.0}),
        (
            ["--epochs", "90", "--device-seconds", "1e3"],
            {"epochs": 90, "device_seconds": 1000.0},
        ),
        (
            ["--target-value", "-0.5", "--no-progress-trials", "none"],
            {"target_value": -0.5, "no_progress_trials": "none"},
        ),
    ],
)
def test_an_edit_sends_limits_as_numbers_or_as_no_limit(
    arguments: list[str], sent: dict[str, Any], service: Played
) -> None:
    service.answer("PATCH /v1/studies/digits", STUDY)
    assert app.run(["study", "edit", "digits", *arguments]) == 0
    said = json.loads(service.bodies[-1])["budget"]
    assert {name: limit for name, limit in said.items() if limit is not None} == sent


def test_an_edit_sends_parallel_beside_the_budget_and_it_is_shown(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {**STUDY, "document": {**STUDY["document"], "parallel": 2}}
    service.answer("PATCH /v1/studies/digits", shown)
    assert app.run(["study", "edit", "digits", "--parallel", "2"]) == 0
    assert json.loads(service.bodies[-1])["parallel"] == 2
    assert "at most 2 at a time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "sent"),
    [("16", {"gpu_memory_gb": 16.0, "devices_per_trial": None}), ("none", "none")],
)
def test_an_edit_sends_what_a_study_needs_and_it_is_shown(
    service: Played, capsys: pytest.CaptureFixture[str], given: str, sent: object
) -> None:
    shown = {**STUDY, "document": {**STUDY["document"], "needs": {"gpu_memory_gb": 16}}}
    service.answer("PATCH /v1/studies/digits", shown)
    assert app.run(["study", "edit", "digits", "--gpu-memory-gb", given]) == 0
    assert json.loads(service.bodies[-1])["needs"] == sent
    assert "a GPU with 16 GB" in capsys.readouterr().out


def test_an_edit_sends_the_space_of_a_document_and_what_became_of_the_trials_is_shown(
    service: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: digits\nspace:\n  learning_rate: {kind: float, low: 1e-3, high: 1e-1}\nfixed: {batch_size: 32}\n"
    )
    edits = [{"trials": 12, "outside": 3}]
    shown = {**STUDY, "document": {**STUDY["document"], "space_edits": edits}}
    service.answer("PATCH /v1/studies/digits", shown)
    assert app.run(["study", "edit", "digits", "--space", str(file)]) == 0
    sent = json.loads(service.bodies[-1])
    assert (sent["space"]["learning_rate"]["low"], sent["fixed"]) == (1e-3, {"batch_size": 32})
    told = " ".join(capsys.readouterr().out.split())
    assert "changed once, last after 12 trials; 3 of those lie outside" in told


@pytest.mark.parametrize("text", ["[1]", "fixed: {}", "space: [1]", "space: {a: {kind: flt}}"])
def test_a_file_without_a_space_is_refused_before_it_is_sent(
    text: str, service: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    assert app.run(["study", "edit", "digits", "--space", str(file)]) == 1
    assert "space" in capsys.readouterr().err
    assert service.bodies == []


def test_values_to_try_are_read_as_json_or_else_as_words(service: Played) -> None:
    service.answer("POST /v1/studies/digits/trials", TRIAL)
    pairs = [
        "learning_rate=1e-3",
        "batch_size=32",
        "optimizer=sgd",
        "flip=true",
        "a=null",
        "b=x=y",
    ]
    sets = [word for pair in pairs for word in ("--set", pair)]
    assert app.run(["trial", "add", "digits", *sets]) == 0
    assert json.loads(service.bodies[-1]) == {
        "values": {
            "learning_rate": 1e-3,
            "batch_size": 32,
            "optimizer": "sgd",
            "flip": True,
            "a": None,
            "b": "x=y",
        }
    }


def test_a_running_study_is_not_removed_and_the_hint_says_how(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.refuse("DELETE /v1/studies/digits", problems.StudyNotIdle())
    assert app.run(["study", "rm", "digits"]) == 1
    assert "trimtab study cancel" in capsys.readouterr().err


def test_a_best_model_is_saved(
    tmp_path: Path, service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("GET /v1/studies/digits/best", BEST)
    service.answer("GET /v1/studies/digits/model", b"weights")
    target = tmp_path / "best.safetensors"
    assert app.run(["study", "best", "digits", "--model", str(target)]) == 0
    assert target.read_bytes() == b"weights"
    assert "96.25 %" in capsys.readouterr().out
    assert service.asked == ["", ""]
    assert app.run(["study", "best", "digits", "--model", str(target), "--validated"]) == 0
    assert service.asked[2:] == ["", "which=validated"]


@pytest.mark.parametrize(
    ("state", "code"), [("active", 0), ("finalising", 0), ("done", 1), ("cancelled", 1)]
)
def test_the_best_trial_of_a_study_that_ended_without_a_model_is_shown_and_fails(
    service: Played, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    service.answer("GET /v1/studies/digits/best", {**BEST, "state": state, "final": None})
    assert app.run(["study", "best", "digits", "-o", "json"]) == code
    told = capsys.readouterr()
    assert Best.model_validate_json(told.out).state == state
    assert ("ended without a tested model" in told.err) == (code == 1)


def test_a_file_that_cannot_be_written_is_an_error_without_a_traceback(
    tmp_path: Path, service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("GET /v1/studies/digits/best", BEST)
    service.answer("GET /v1/studies/digits/model", b"weights")
    (tmp_path / "file").write_text("")
    assert app.run(["study", "best", "digits", "--model", str(tmp_path / "file" / "m")]) == 1
    assert "error:" in capsys.readouterr().err


def test_watching_prints_plain_lines_where_there_is_no_terminal(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("GET /v1/studies/digits", STUDY)
    service.answer("GET /v1/studies/digits/trials/3", TRIAL)
    service.stream(
        "digits", ("study_created", None), ("trial_completed", 3), ("study_done", None)
    )
    assert app.run(["study", "show", "digits", "--watch"]) == 0
    said = capsys.readouterr().out
    assert "trial 3 completed  91.00 % after 3 epochs  learning_rate=0.001" in said
    assert "study done" in said
    # The first question fails soon where there is no service; what follows outlives one that is started again.
    assert service.patience_s == [0.0, terminal.FOLLOWS_S]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"state": "done", "problem": "No trial completed."}, "No trial completed."),
        ({"state": "cancelled"}, "cancelled"),
        ({"state": "active", "blocked": True, "problem": "No such folder."}, "No such folder."),
    ],
)
def test_watching_a_study_that_ends_without_a_model_fails(
    changes: dict[str, Any], told: str, service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("GET /v1/studies/digits", {**STUDY, "final": None, **changes})
    service.stream("digits", ("study_done", None))
    assert app.run(["study", "show", "digits", "--watch"]) == 1
    assert told in capsys.readouterr().out


def test_watching_as_json_keeps_the_standard_output_for_the_answer(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("GET /v1/studies/digits", STUDY)
    service.stream("digits", ("study_done", None))
    assert app.run(["study", "show", "digits", "--watch", "-o", "json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["name"] == "digits"
    assert "study done" in said.err


def test_a_message_from_afar_cannot_rewrite_the_terminal(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.refuse("GET /v1/studies/digits", problems.Conflict("[bold]\x1b[2Jgone[/nothing]"))
    assert app.run(["study", "show", "digits"]) == 1
    said = capsys.readouterr().err
    assert "\x1b[2J" not in said
    assert "[bold]\ufffd[2Jgone[/nothing]" in said
