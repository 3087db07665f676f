"""The runner of the mutants, on a small project of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[1] / "mutants" / "run_mutants.py"
PATCH = """\
# test: {test}
diff --git a/{file} b/{file}
--- a/{file}
+++ b/{file}
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
    project: Path,
    name: str,
    test: str,
    before: str = "ANSWER = 42",
    after: str = "ANSWER = 43",
    file: str = "service/__init__.py",
    module: str = "test_answer",
) -> None:
    whole = f"tests/{module}.py::{test}"
    text = PATCH.format(test=whole, file=file, before=before, after=after)
    (project / "tests" / "mutants" / f"{name}.patch").write_text(text)


def run(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(RUNNER), "--root", str(project), *arguments],
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


def git(project: Path, *arguments: str) -> None:
    who = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")
    subprocess.run(["git", *who, *arguments], cwd=project, check=True, capture_output=True)


@pytest.fixture
def committed(project: Path) -> Path:
    """A project on its main branch with two mutants, each of a file and with a test file of its own."""
    (project / "service" / "other.py").write_text("ANSWER = 42\nUNUSED = 3\n")
    (project / "tests" / "test_other.py").write_text(
        "from service import other\n\n\ndef test_other():\n    assert other.ANSWER == 42\n"
    )
    leave(project, "answer", "test_answer")
    leave(project, "other", "test_other", file="service/other.py", module="test_other")
    git(project, "checkout", "-q", "-b", "main")
    commit(project)
    return project


def commit(project: Path) -> None:
    git(project, "add", "--all")
    git(project, "commit", "-q", "-m", "as it stands")


def names_run(project: Path, *arguments: str) -> set[str]:
    """The mutants that were run, all of which are to be caught."""
    answer = run(project, *arguments)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    lines = [line for line in answer.stdout.splitlines() if line.startswith("caught")]
    return {line.split()[1] for line in lines}


@pytest.mark.parametrize(
    "file", ["service/other.py", "tests/test_other.py", "tests/mutants/other.patch"]
)
def test_a_mutant_is_of_a_change_to_its_file_to_its_tests_and_to_its_patch(
    committed: Path, file: str
) -> None:
    path = committed / file
    text = path.read_text()
    path.write_text(f"# Why.\n{text}" if path.suffix == ".patch" else f"{text}\n")
    assert names_run(committed, "--changed") == {"other"}


def test_where_nothing_of_a_mutant_has_changed_nothing_is_run(committed: Path) -> None:
    (committed / "unrelated.py").write_text("")
    answer = run(committed, "--changed")
    assert answer.stdout.startswith("nothing to run")
    assert answer.returncode == 0


def test_a_file_that_has_moved_has_changed_under_both_names(committed: Path) -> None:
    leave(committed, "stale", "test_answer", file="service/other.py")
    leave(committed, "early", "test_answer", file="service/moved.py")
    commit(committed)
    git(committed, "mv", "service/other.py", "service/moved.py")
    commit(committed)
    answer = run(committed, "--changed", "HEAD~1", "--passed")
    named = {line.split()[-3] for line in answer.stdout.splitlines() if line.endswith(" s)")}
    assert named == {"other", "stale", "early"}


def test_a_branch_is_compared_with_where_it_left_main_and_main_with_its_tip(
    committed: Path,
) -> None:
    git(committed, "checkout", "-q", "-b", "branch")
    (committed / "service" / "other.py").write_text("ANSWER = 42\nUNUSED = 3\n\n")
    commit(committed)
    git(committed, "checkout", "-q", "main")
    (committed / "service" / "__init__.py").write_text("ANSWER = 42\nUNUSED = 3\n\n")
    commit(committed)
    assert names_run(committed, "--changed") == set()
    assert names_run(committed, "--changed", "HEAD~1") == {"answer"}
    git(committed, "checkout", "-q", "branch")
    assert names_run(committed, "--changed") == {"other"}


def test_a_commit_that_git_does_not_know_is_refused(committed: Path) -> None:
    answer = run(committed, "--changed", "nowhere")
    assert "git knows no commit nowhere" in answer.stderr
    assert answer.returncode == 1


def test_names_and_what_has_changed_are_not_asked_for_at_once(committed: Path) -> None:
    assert "either names or --changed" in run(committed, "other", "--changed").stderr
