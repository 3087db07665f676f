"""What the documents show works: every command parses, every study is legal, every example runs."""

import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
import yaml

from tests.unit.cli.played_service import BEST, STUDY, Played
from trimtab import client as client_module
from trimtab.cli import app, documents, failures
from trimtab.client import Client
from trimtab.contract.hyperparameters import Hyperparameter, hyperparameters
from trimtab.contract.studies import StudyDocument

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/guides/*.md")])
EXAMPLES = sorted(ROOT.glob("examples/*.yaml"))

INLINE = re.compile(r"`((?:\./run|trimtab) [^`]+)`")
LINE = re.compile(r"^(?:[A-Z_]+=\S+ +)*((?:\./run|trimtab) .+?)(?:  +#.*)?(?:  +\(.*)?$")
RUN_VERBS = ("test", "mutants", "lint", "bench", "soak", "engines")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def shown(page: Path) -> Iterator[str]:
    """Every command that a page shows, in blocks and in sentences."""
    yield from INLINE.findall(
        re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    )
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            yield from LINE.findall(line.split(" # ")[0].rstrip())


def commands() -> list[str]:
    texts = [command for page in PAGES for command in shown(page)]
    return sorted(
        {*texts, *(c for hint in failures.HINTS.values() for c in INLINE.findall(hint))}
    )


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 25


def test_a_command_with_an_unknown_option_would_not_parse() -> None:
    assert app.run(["study", "create", "--nonsense", "--help"]) == 2


@pytest.mark.parametrize("command", commands())
def test_every_command_that_is_shown_parses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = shlex.split(command)
    if program == "./run" and arguments[0] in RUN_VERBS:
        assert f"{arguments[0]} " in (ROOT / "run").read_text()
        return
    code = app.run([*arguments, "--help"])
    assert code == 0, capsys.readouterr().err
    words = [word for word in arguments if not word.startswith("-")]
    assert f"trimtab {words[0]}" in capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_study_to_us_and_to_plain_yaml(path: Path) -> None:
    study = documents.read(path)
    assert StudyDocument.model_validate(yaml.safe_load(path.read_text())) == study


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_study_on_a_page_is_legal(page: Path) -> None:
    for block in blocks(page, "yaml"):
        assert StudyDocument.model_validate(yaml.safe_load(block))


def rows() -> dict[str, list[str]]:
    """The rows of the guide's table of hyperparameters, by name."""
    text = (ROOT / "docs/guides/study-document.md").read_text()
    table = text.split("| hyperparameter |")[1].split("\n\n")[0]
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {name.strip("`"): rest for name, *rest in cells}


def legal(known: Hyperparameter) -> str:
    if known.choices:
        return ", ".join(known.choices)
    low = f"above {known.low}," if known.low_exclusive else f"{known.low}"
    high = f"below {known.high}" if known.high_exclusive else f"{known.high}"
    return f"{low} to {high}"


def test_the_guide_lists_every_hyperparameter_with_its_range_and_default() -> None:
    listed = rows()
    assert set(listed) == set(hyperparameters())
    for name, known in hyperparameters().items():
        default = "null" if known.default is None else str(known.default)
        assert listed[name][:2] == [legal(known), default], name


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played()
    played.answer("POST /v1/studies", STUDY)
    played.answer("GET /v1/studies/digits/best", BEST)
    played.answer("GET /v1/studies/digits/model", b"weights")
    played.stream(
        "digits", ("study_created", None), ("trial_completed", 3), ("study_done", None)
    )
    transport = httpx2.MockTransport(played.handle)
    monkeypatch.setattr(client_module, "Client", partial(Client, transport=transport))
    return played


def readme_snippet(folder: Path) -> None:
    readme = ROOT / "README.md"
    (folder / "study.yaml").write_text(blocks(readme, "yaml")[0])
    script = folder / "snippet.py"
    script.write_text(blocks(readme, "python")[0])
    runpy.run_path(str(script))


def example(_: Path) -> None:
    runpy.run_path(str(ROOT / "examples/from_python.py"), run_name="__main__")


@pytest.mark.parametrize("run", [readme_snippet, example])
def test_what_is_shown_in_python_runs(
    run: Callable[[Path], None],
    tmp_path: Path,
    service: Played,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path)
    assert service.seen[0] == "POST /v1/studies"
    assert "trial_completed 3" in capsys.readouterr().out
    assert [file.read_bytes() for file in tmp_path.glob("*.safetensors")] == [b"weights"]
