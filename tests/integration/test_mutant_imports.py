"""What the runner of the mutants imports once for many of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[1] / "mutants"
SOURCES = {
    "__init__.py": "",
    "low.py": "ANSWER = 1\n",
    "high.py": "from service import low\n\nANSWER = low.ANSWER + 1\n",
    "pack/__init__.py": "from service.pack import first, second\n",
    "pack/first.py": "ANSWER = 1\n",
    "pack/second.py": "from service import high\n\nANSWER = high.ANSWER\n",
    "broken.py": "import nothing_of_this_name\n",
}
FORK = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from imports import Imports, all_from
from mutant import Mutant
clean, copy = Path(sys.argv[2]), Path(sys.argv[3])
imports = Imports.of(clean)
number = imports.before(Mutant("one", Path("one.patch"), (), frozenset([sys.argv[4]])))
imports.make(None if sys.argv[5] == "all" else number)
found = sorted(name for name in sys.modules if name.startswith("service."))
imports.arrive(copy, number)
sys.path.insert(0, str(copy))
from service import high, low, pack
print(json.dumps({
    "found": found, "answers": [low.ANSWER, high.ANSWER, pack.second.ANSWER], "from": all_from(copy)
}))
"""


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return written(tmp_path / "clean", SOURCES)


def written(root: Path, sources: dict[str, str]) -> Path:
    for name, text in sources.items():
        file = root / "service" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def in_a_fork(
    clean: Path, broken: str, text: str, *, made: str = "before"
) -> "dict[str, object]":
    """What a mutant finds imported, and what the modules answer when all of them are imported from its copy."""
    copy = written(clean.parent / "copy", {**SOURCES, broken: text})
    answer = subprocess.run(
        [sys.executable, "-c", FORK, str(RUNNER), str(clean), str(copy), f"service/{broken}", made],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(answer.stdout)


def test_a_fork_finds_what_its_mutant_does_not_break_and_meets_what_it_does(
    clean: Path,
) -> None:
    met = in_a_fork(clean, "high.py", "ANSWER = 70\n")
    assert met["found"] == ["service.low"]
    assert met["answers"] == [1, 70, 70]
    assert met["from"]


def test_what_needs_the_broken_module_is_imported_anew(clean: Path) -> None:
    met = in_a_fork(clean, "low.py", "ANSWER = 50\n")
    assert met["found"] == []
    assert met["answers"] == [50, 51, 51]


def test_a_package_that_imports_its_modules_is_imported_in_one_step(clean: Path) -> None:
    met = in_a_fork(clean, "pack/second.py", "ANSWER = 70\n")
    assert met["found"] == ["service.high", "service.low"]
    assert met["answers"] == [1, 2, 70]


def test_another_try_of_a_mutant_forgets_what_has_been_imported_since(clean: Path) -> None:
    met = in_a_fork(clean, "low.py", "ANSWER = 50\n", made="all")
    assert "service.high" in str(met["found"])
    assert met["answers"] == [50, 51, 51]
    assert met["from"]
