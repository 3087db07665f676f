"""The demo's own decisions; tests/end_to_end/test_demo.py runs it."""

import json
from dataclasses import asdict
from pathlib import Path

import httpx2
import pytest
from rich.console import Console

from tests.unit.cli.played_service import STUDY, TRIAL, Played
from trimtab.cli import board, demo
from trimtab.cli.family import Address
from trimtab.cli.watch import Snapshot
from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.studies import Study, StudyDocument
from trimtab.contract.trials import Trial


def client(handle: Played | httpx2.MockTransport) -> Client:
    transport = httpx2.MockTransport(handle.handle) if isinstance(handle, Played) else handle
    return Client("http://service.test", transport=transport, retry_for_s=0)


def test_the_study_takes_the_first_free_name() -> None:
    taken = {"digits", "digits-2"}
    asked: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        name = StudyDocument.model_validate_json(request.content).name
        asked.append(name)
        if name in taken:
            refusal = problems.StudyExists().document()
            headers = {"content-type": "application/problem+json"}
            return httpx2.Response(409, content=refusal.model_dump_json(), headers=headers)
        return httpx2.Response(201, json={**STUDY, "name": name})

    assert demo.submit(client(httpx2.MockTransport(handle))).name == "digits-3"
    assert asked == ["digits", "digits-2", "digits-3"]


def test_the_demo_and_the_example_are_the_same_search() -> None:
    from trimtab.cli import documents

    example = documents.read(Path(__file__).parents[3] / "examples/digits.yaml")
    shown = demo.document("digits")
    assert (example.space, example.task, example.model) == (
        shown.space,
        shown.task,
        shown.model,
    )
    assert example.budget.trials == shown.budget.trials
    assert example.fixed["epochs"] == shown.fixed["epochs"]


def test_the_winner_is_saved_and_its_figures_are_json(tmp_path: Path) -> None:
    service = Played()
    service.answer("GET /v1/studies/digits/model", b"weights")
    winner = demo.find_winner(client(service), Study.model_validate(STUDY), tmp_path)
    assert (tmp_path / "models" / "digits.safetensors").read_bytes() == b"weights"
    assert json.loads(json.dumps(asdict(winner.figures(12.34)))) == {
        "trials": 4,
        "validation_accuracy": 0.9625,
        "test_accuracy_before": 0.11,
        "test_accuracy": 0.97,
        "seconds": 12.3,
        "model": str(tmp_path / "models" / "digits.safetensors"),
    }


def test_a_study_without_a_model_says_why_and_what_its_trials_say(tmp_path: Path) -> None:
    failed = {
        **TRIAL,
        "state": "failed",
        "error_kind": "data_missing",
        "error_message": "no disk",
    }
    service = Played()
    service.answer("GET /v1/studies/digits/trials", {"trials": [failed]})
    ended = {**STUDY, "best": None, "final": None, "problem": "No trial completed."}
    with pytest.raises(problems.NoModel) as refusal:
        demo.find_winner(client(service), Study.model_validate(ended), tmp_path)
    assert "No trial completed." in refusal.value.detail
    assert "trial 3: data_missing: no disk" in refusal.value.detail


def test_the_lines_to_copy_quote_what_a_shell_would_break() -> None:
    address = Address(url="http://127.0.0.1:8000", dashboard="http://127.0.0.1:8000/dashboard")
    folder = Path("my data")
    lines = dict(demo.what_next(folder / "m.safetensors", address, folder, keep=False))
    assert "--model 'my data/m.safetensors'" in lines["try it"]
    assert "--data-dir 'my data'" in lines["dashboard"]
    assert "http" not in lines["dashboard"]
    kept = dict(demo.what_next(folder / "m.safetensors", address, folder, keep=True))
    assert kept["dashboard"] == address.dashboard


def test_on_a_terminal_one_board_is_redrawn() -> None:
    snapshot = Snapshot(Study.model_validate(STUDY), {3: Trial.model_validate(TRIAL)}, (), None)
    console = Console(force_terminal=True, width=100, height=40, markup=False)
    with console.capture() as captured:
        last = board.follow(console, [snapshot, snapshot])
    assert last is snapshot
    assert "\x1b[" in captured.get()
    assert "96.25 %" in captured.get()
