"""`./run engines skypilot`: SkyPilot itself, in an environment of its own, takes deploy/skypilot.yaml."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

FILE = Path(__file__).parents[2] / "deploy" / "skypilot.yaml"
PINNED = "skypilot==0.14.1"
TAKE = """
import json, sys
import yaml
from sky import Task
config = yaml.safe_load(open(sys.argv[1]))
given = json.loads(sys.argv[2])
task = Task.from_yaml_config(config, env_overrides=given["envs"], secrets_overrides=given["secrets"])
shown = {name: str(value) for name, value in task.envs_and_secrets.items()}
print(json.dumps({"resources": sorted(str(one) for one in task.resources), "envs": shown, "yaml": task.to_yaml_config()}))
"""
TOKEN = "a-token-of-this-test"
GIVEN = {
    "envs": [["TRIMTAB_SERVER", "https://trimtab.example"]],
    "secrets": [["TRIMTAB_TOKEN", TOKEN]],
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with SkyPilot, which asks for libraries that ours must not have."""
    folder = tmp_path_factory.mktemp("skypilot")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    found = folder / "bin" / "python"
    words = [str(found), "-m", "pip", "install", "--quiet", PINNED]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{PINNED} cannot be installed: {done.stderr.strip()[-300:]}")
    return found


def take(python: Path, file: Path, given: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    home = file.parent / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [str(python), "-c", TAKE, str(file), json.dumps(given)],
        env={**os.environ, "HOME": str(home), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_skypilot_takes_the_file_and_shows_no_token(python: Path, tmp_path: Path) -> None:
    file = tmp_path / FILE.name
    file.write_text(FILE.read_text())
    done = take(python, file, GIVEN)
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout.splitlines()[-1])
    assert taken["envs"]["TRIMTAB_SERVER"] == "https://trimtab.example"
    assert taken["yaml"]["secrets"] == {"TRIMTAB_TOKEN": TOKEN}
    assert TOKEN not in json.dumps(taken["envs"])
    assert len(taken["resources"]) == len(
        yaml.safe_load(FILE.read_text())["resources"]["accelerators"]
    )


def test_skypilot_refuses_a_field_that_it_does_not_know(python: Path, tmp_path: Path) -> None:
    file = tmp_path / FILE.name
    file.write_text(FILE.read_text().replace("accelerators:", "accelerator:"))
    done = take(python, file, GIVEN)
    assert done.returncode != 0
    assert "accelerator" in done.stderr


def test_nothing_starts_without_an_address(python: Path, tmp_path: Path) -> None:
    file = tmp_path / FILE.name
    file.write_text(FILE.read_text())
    done = take(python, file, {**GIVEN, "envs": []})
    assert done.returncode != 0
    assert "'TRIMTAB_SERVER' is None" in done.stderr


def test_a_token_that_is_not_given_is_one_that_skypilot_keeps(
    python: Path, tmp_path: Path
) -> None:
    file = tmp_path / FILE.name
    file.write_text(FILE.read_text())
    done = take(python, file, {**GIVEN, "secrets": []})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["yaml"]["secrets"] == [
        "secrets:TRIMTAB_TOKEN"
    ]
