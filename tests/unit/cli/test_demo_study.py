"""The demo's own decisions; tests/end_to_end/test_demo.py runs it."""

import json
from dataclasses import asdict
from pathlib import Path

import httpx2
import pytest
from rich.console import Console

from tests.unit.cli.played_service import STUDY, TRIAL, Played
from trimtab.cli import board, demo, demo_studies
from trimtab.cli.family import Address
from trimtab.cli.watch import Snapshot
from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.finish import Finish
from trimtab.contract.recipe import Recipe
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

    created = demo_studies.create(
        client(httpx2.MockTransport(handle)), "digits", demo_studies.document
    )
    assert created.name == "digits-3"
    assert asked == ["digits", "digits-2", "digits-3"]


def test_the_demo_and_the_example_are_the_same_search() -> None:
    from trimtab.cli import documents

    example = documents.read(Path(__file__).parents[3] / "examples/digits.yaml")
    shown = demo_studies.document("digits")
    assert (example.space, example.task, example.model) == (
        shown.space,
        shown.task,
        shown.model,
    )
    assert example.budget.trials == shown.budget.trials
    assert example.fixed["epochs"] == shown.fixed["epochs"]


def test_the_plain_run_is_a_plain_scripts_on_all_that_is_not_sealed() -> None:
    plain = demo_studies.plain_document("digits-plain")
    assert plain.search_budget.trials == 1
    assert plain.finish == Finish(refit=True)
    assert not plain.search.known_recipes
    recipe = plain.recipe({"learning_rate": demo_studies.PLAIN_RATE})
    shown = demo_studies.document("digits")
    assert (plain.task, plain.model) == (shown.task, shown.model)
    assert recipe == Recipe(
        epochs=demo_studies.EPOCHS, optimizer="adamw", learning_rate=1e-3, schedule="constant"
    )


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.01}


def reported(handed_over: str, **tests: float) -> Study:
    candidates = [{"kind": kind, "test": interval(value)} for kind, value in tests.items()]
    report = {
        "handed_over": handed_over,
        "why": "it was better",
        "candidates": candidates,
        "test": interval(0.97),
    }
    return Study.model_validate({**STUDY, "final": {**STUDY["final"], "report": report}})


def test_the_winner_is_saved_and_its_figures_are_json(tmp_path: Path) -> None:
    service = Played()
    service.answer("GET /v1/studies/digits/model", b"weights")
    study = reported("ensemble", winner=0.95, ensemble=0.97)
    plain = reported("linear_probe", winner=0.91, refit=0.93, linear_probe=0.94)
    winner = demo.find_winner(client(service), study, tmp_path, plain)
    assert (tmp_path / "models" / "digits.safetensors").read_bytes() == b"weights"
    assert json.loads(json.dumps(asdict(winner.figures(12.34)))) == {
        "trials": 4,
        "handed_over": "ensemble",
        "validation_accuracy": 0.9625,
        "test_accuracy_before": 0.11,
        "test_accuracy_plain": 0.93,
        "test_accuracy_validated": 0.95,
        "test_accuracy": 0.97,
        "seconds": 12.3,
        "model": str(tmp_path / "models" / "digits.safetensors"),
    }


@pytest.mark.parametrize("study", [Study.model_validate(STUDY), reported("refit", refit=0.97)])
def test_the_result_tells_the_tests_with_their_intervals_as_far_as_they_are_known(
    study: Study, tmp_path: Path
) -> None:
    service = Played()
    service.answer("GET /v1/studies/digits/model", b"weights")
    winner = demo.find_winner(client(service), study, tmp_path, study)
    console = Console(width=100)
    with console.capture() as captured:
        console.print(demo.result(winner, winner.figures(12.34)))
    lines = [line.strip(" │") for line in captured.get().splitlines()]
    (handed_over,) = [line for line in lines if line.startswith("handed over")]
    is_told = study.final is not None and study.final.report is not None
    assert ("97.00 % (95.0 to 98.0)" in handed_over) == is_told
    assert "97.00 %" in handed_over


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
    study = Study.model_validate(ended)
    with pytest.raises(problems.NoModel) as refusal:
        demo.find_winner(client(service), study, tmp_path, study)
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
