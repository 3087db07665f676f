"""What `up` takes from the workers' settings in its environment."""

from typing import Any, cast

import pytest
import typer

from trimtab.cli import machine, up
from trimtab.cli.family import Address, Family


class Recorder:
    """A family that starts nobody, and keeps what it was told."""

    def __init__(self) -> None:
        self.workers: list[tuple[str, str]] = []

    def start_worker(self, name: str, _server: str, device: str, _env: Any) -> None:
        self.workers.append((name, device))


def started(count: int | None) -> list[tuple[str, str]]:
    """The name and the device of each worker that is started."""
    family, address = Recorder(), Address(url="http://127.0.0.1:1", dashboard="")
    names = up.start_workers(cast(Family, family), address, count)
    assert names == [name for name, _ in family.workers]
    return family.workers


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "devices", lambda: ("cuda:0", "cuda:1"))
    for name in ("DEVICE", "LABEL"):
        monkeypatch.delenv(f"TRIMTAB_WORKER_{name}", raising=False)


def test_without_settings_each_device_has_a_worker_named_after_it() -> None:
    assert started(None) == [("cuda0-0", "cuda:0"), ("cuda1-1", "cuda:1")]


@pytest.mark.parametrize("device", ["", "auto"])
def test_no_device_in_particular_means_all(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setenv("TRIMTAB_WORKER_DEVICE", device)
    assert [device for _, device in started(None)] == ["cuda:0", "cuda:1"]


def test_the_device_of_the_settings_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_WORKER_DEVICE", "cpu")
    assert started(None) == [("cpu-0", "cpu")]
    assert started(2) == [("cpu-0", "cpu"), ("cpu-1", "cpu")]


def test_the_label_of_the_settings_names_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_WORKER_LABEL", "attic")
    assert [name for name, _ in started(2)] == ["attic-0", "attic-1"]
    monkeypatch.setenv("TRIMTAB_WORKER_LABEL", "../attic")
    with pytest.raises(typer.BadParameter, match="TRIMTAB_WORKER_LABEL"):
        started(2)
