"""`trimtab priors`: what is known before a study begins, and what studies have moved."""

import json
from typing import Any

import httpx2
import pytest

from tests.unit.cli.played_service import Played
from trimtab.cli import app, terminal
from trimtab.client import Client

RECIPE = {"name": "plain", "values": {"learning_rate": 1e-3}, "source": "a script", "wins": 0}
KIND: dict[str, Any] = {
    "family": "small_convnet",
    "task": "classification",
    "studies": 3,
    "centre": 1.26e-3,
    "usual_centre": 2e-3,
    "decades": 0.4,
    "source": "our experiment",
    "recipes": [RECIPE | {"name": "fast_head", "wins": 3}, RECIPE],
}
UNMOVED = KIND | {"family": "convnet", "studies": 0, "centre": 5e-4, "usual_centre": 5e-4}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played()
    played.answer("GET /v1/priors", {"kinds": [KIND, UNMOVED | {"recipes": [RECIPE]}]})

    def client(_: terminal.Terminal, patience_s: float = 0.0) -> Client:
        return Client("http://service.test", transport=httpx2.MockTransport(played.handle))

    monkeypatch.setattr(terminal.Terminal, "client", client)
    return played


def test_a_kind_tells_its_centre_what_it_was_and_its_recipes_in_their_order(
    service: Played, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert app.run(["priors"]) == 0
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    (moved,) = (line for line in told if line.startswith("small_convnet"))
    (unmoved,) = (line for line in told if line.startswith("convnet"))
    assert moved == (
        "small_convnet classification 3 0.00126, was 0.002 fast_head (3 won) plain"
    )
    assert unmoved == "convnet classification 0 0.0005 plain"


def test_json_has_all_of_it(service: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["-o", "json", "priors"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kinds"][0] == KIND
