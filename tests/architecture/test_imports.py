"""Who loads whom, seen in fresh interpreters: the import linter does not follow third parties."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
EXTRAS = {"timm", "transformers", "huggingface_hub", "tokenizers"}
"""Libraries that pictures and our own networks do without: only those load them who name a model that needs them."""
CLOSED = {
    "trimtab.contract": {
        "service",
        "worker",
        "sqlalchemy",
        "fastapi",
        "optuna",
        "torch",
        "httpx2",
        "numpy",
    },
    "trimtab.client": {"service", "worker", "sqlalchemy", "fastapi", "optuna", "torch"},
    "trimtab.cli": {"service", "worker", "sqlalchemy", "fastapi", "optuna", "torch"},
    "service.app": {
        "worker",
        "torch",
        "torchmetrics",
        "torchvision",
        "sklearn",
        "PIL",
        "safetensors",
    },
    "service.__main__": {
        "worker",
        "torch",
        "torchmetrics",
        "torchvision",
        "sklearn",
        "PIL",
        "safetensors",
    },
    "service.embedded_keeper": {"worker", "psycopg2", "sqlalchemy", "numpy"},
    "service.sampling": {"sqlalchemy", "torch", "fastapi"},
    "worker.agent": {
        "service",
        "torch",
        "torchvision",
        "numpy",
        "sqlalchemy",
        "fastapi",
        "optuna",
    },
    "worker.runner": {"service", "sqlalchemy", "fastapi", "optuna", "httpx2", *EXTRAS},
    "worker.training": {"service", "sqlalchemy", "fastapi", "optuna", "httpx2", *EXTRAS},
    "worker.data": {"service", "sqlalchemy", "fastapi", "optuna", "httpx2", *EXTRAS},
}
"""Module -> top-level packages that must not be in memory once it is imported."""
LOADED = """
import importlib, pkgutil, sys
module = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(getattr(module, "__path__", []), module.__name__ + "."):
    importlib.import_module(found.name)
print(*{name.partition(".")[0] for name in sys.modules})
"""


def loaded_by(module: str) -> set[str]:
    """The top-level packages in `sys.modules` after the import of `module` and all modules in it."""
    answer = subprocess.run(
        [sys.executable, "-c", LOADED, module],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.split())


@pytest.mark.parametrize("module", CLOSED)
def test_a_room_loads_nothing_from_the_rooms_closed_to_it(module: str) -> None:
    assert loaded_by(module) & CLOSED[module] == set()


def test_the_import_linter_finds_every_contract_kept() -> None:
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as lint; lint()",
            "--no-cache",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
