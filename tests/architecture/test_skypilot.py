"""The file for SkyPilot, as far as can be told without it; `./run engines skypilot` asks itself."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.settings import Settings

FILE = Path(__file__).parents[2] / "deploy" / "skypilot.yaml"
KNOWN = {
    "name", "workdir", "num_nodes", "resources", "file_mounts", "setup", "run", "envs", "secrets", "config", "service",
}  # fmt: skip
"""The fields of a task (skypilot 0.14, sky/utils/schemas.py); it refuses others."""


@pytest.fixture(scope="module")
def task() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def test_every_field_is_known(task: dict[str, Any]) -> None:
    assert set(task) <= KNOWN


def test_address_and_token_are_given_by_whoever_launches(task: dict[str, Any]) -> None:
    assert task["envs"]["TRIMTAB_SERVER"] is None
    assert task["secrets"] == {"TRIMTAB_TOKEN": None}


def test_the_settings_are_known_and_mean_what_is_written(
    task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {f"TRIMTAB_WORKER_{field}".upper() for field in Settings.model_fields}
    assert set(task["envs"]) <= known | {"TRIMTAB_SERVER"}
    assert all(isinstance(value, str | None) for value in task["envs"].values())
    for name, value in task["envs"].items():
        monkeypatch.setenv(name, value or "https://trimtab.example")
    settings = Settings()
    assert settings.exit_when_idle_s is not None, "a machine without work costs money"
    assert settings.grace_s < 30, "a cloud leaves no more"
    assert not settings.lacks_roots


def test_a_signal_reaches_the_worker_and_not_a_shell(task: dict[str, Any]) -> None:
    assert task["run"].strip().splitlines()[-1].startswith("exec ")
