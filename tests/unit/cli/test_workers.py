"""`trimtab worker list` and `drain`: who is there, and who is asked to leave."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.cli.played_service import Played
from trimtab.cli import app

IDS = [f"00000000-0000-0000-0000-00000000000{n}" for n in range(4)]


def a_worker(number: int, label: str, state: str = "alive", **changes: Any) -> dict[str, Any]:
    seen = datetime.now(UTC) - timedelta(seconds=40)
    one = {
        "worker_id": IDS[number],
        "label": label,
        "device": "cuda:0 NVIDIA L4",
        "capacity": 8,
    }
    more = {
        "state": state,
        "last_seen": seen.isoformat(),
        "running": 3,
        "memory_bytes": 23678025728,
    }
    return one | more | changes


@pytest.fixture
def fleet(service: Played) -> Played:
    workers = [
        a_worker(0, "node-1"),
        a_worker(1, "node-1", device="cpu", memory_bytes=None),
        a_worker(2, "node-2", "draining"),
        a_worker(3, "node-3", "gone"),
    ]
    service.answer("GET /v1/workers", {"workers": workers})
    for number, one in enumerate(workers):
        service.answer(f"POST /v1/workers/{IDS[number]}:drain", one | {"state": "draining"})
    return service


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_workers_are_listed_but_for_those_that_have_gone(
    fleet: Played, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert app.run(["worker", "list"]) == 0
    told = lines(capsys.readouterr().out)
    assert f"node-1 alive cuda:0 NVIDIA L4 23.7 GB 3/8 40 s ago {IDS[0]}" in told
    assert f"node-1 alive cpu - 3/8 40 s ago {IDS[1]}" in told
    assert not any("node-3" in line for line in told)
    assert app.run(["worker", "list", "--all", "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["workers"]) == len(IDS)


def drained(fleet: Played) -> list[str]:
    return [IDS[n] for n in range(4) if f"POST /v1/workers/{IDS[n]}:drain" in fleet.seen]


@pytest.mark.parametrize(
    ("names", "meant"),
    [([IDS[1]], [1]), (["node-1"], [0, 1]), (["node-2", IDS[0], IDS[0]], [0, 2])],
)
def test_workers_are_drained_by_id_or_by_label(
    fleet: Played, names: list[str], meant: list[int]
) -> None:
    assert app.run(["worker", "drain", *names]) == 0
    assert drained(fleet) == [IDS[n] for n in meant]


@pytest.mark.parametrize("name", ["node-9", "node-3"])
def test_nobody_is_drained_where_one_name_is_of_nobody(
    fleet: Played, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert app.run(["worker", "drain", "node-1", name]) == 1
    assert f"No worker that is there has the id or the label '{name}'" in " ".join(
        capsys.readouterr().err.split()
    )
    assert drained(fleet) == []


def test_an_empty_list_says_how_a_worker_is_started(
    service: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer("GET /v1/workers", {"workers": []})
    assert app.run(["worker", "list"]) == 0
    assert "trimtab worker start" in capsys.readouterr().out
