"""The runner of the mutants, on a small project of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[1] / "mutants" / "run_mutants.py"
PATCH = """\
# test: {test}
diff --git a/service/__init__.py b/service/__init__.py
--- a/service/__init__.py
+++ b/service/__init__.py
@@ -1,2 +1,2 @@
-{before}
+{after}
 UNUSED = 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("ANSWER = 42\nUNUSED = 3\n")
    (tmp_path / "tests" / "mutants").mkdir(parents=True)
    (tmp_path / "tests" / "test_answer.py").write_text(
        "import service\n\n\n"
        "def test_answer():\n    assert service.ANSWER == 42\n\n\n"
        "def test_wrong():\n    assert service.ANSWER == 41\n"
    )
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def leave(
    project: Path, name: str, test: str, before: str = "ANSWER = 42", after: str = "ANSWER = 43"
) -> None:
    text = PATCH.format(test=f"tests/test_answer.py::{test}", before=before, after=after)
    (project / "tests" / "mutants" / f"{name}.patch").write_text(text)


def run(project: Path, *names: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(RUNNER), "--root", str(project), *names],
        capture_output=True,
        text=True,
        check=False,
    )


def test_mutants_whose_test_fails_are_caught_and_the_source_stays_as_it_was(
    project: Path,
) -> None:
    for number in range(3):
        leave(project, f"other-answer-{number}", "test_answer", after=f"ANSWER = 5{number}")
    answer = run(project)
    assert answer.stdout.splitlines()[-1] == "3 caught, 0 survived"
    assert answer.returncode == 0
    assert (project / "service" / "__init__.py").read_text() == "ANSWER = 42\nUNUSED = 3\n"


def test_a_mutant_that_no_test_notices_survives_and_fails_the_run(project: Path) -> None:
    leave(project, "caught", "test_answer")
    leave(project, "survives", "test_answer", after="ANSWER = 40 + 2")
    answer = run(project)
    assert "SURVIVED survives" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "1 caught, 1 survived"
    assert answer.returncode == 1


def test_a_patch_that_does_not_apply_fails_the_run(project: Path) -> None:
    leave(project, "stale", "test_answer", before="ANSWER = 7")
    answer = run(project)
    assert answer.stdout.splitlines()[-1] == "0 caught, 0 survived, 1 broken"
    assert answer.returncode == 1


def test_a_mutant_that_cannot_be_imported_is_broken_rather_than_caught(project: Path) -> None:
    leave(project, "syntax", "test_answer", after="ANSWER = (")
    assert run(project).stdout.splitlines()[-1] == "0 caught, 0 survived, 1 broken"


def test_a_test_that_fails_without_the_mutant_stops_the_run(project: Path) -> None:
    leave(project, "no-proof", "test_wrong")
    answer = run(project)
    assert "do not pass without a mutant" in answer.stdout
    assert answer.returncode == 1


def test_only_the_mutants_named_are_run_and_unknown_names_are_refused(project: Path) -> None:
    leave(project, "one", "test_answer")
    leave(project, "two", "test_answer")
    assert run(project, "two").stdout.splitlines()[-1] == "1 caught, 0 survived"
    assert "no such mutant" in run(project, "three").stderr


def test_tests_that_have_just_passed_are_not_run_without_a_mutant(project: Path) -> None:
    leave(project, "caught", "test_answer")
    leave(project, "fails-anyway", "test_wrong")
    assert run(project, "--passed").stdout.splitlines()[-1] == "2 caught, 0 survived"
    assert run(project).returncode == 1
