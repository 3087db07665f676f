"""Rules that every source file keeps."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("trimtab", "service", "worker", "migrations")
WORKER_ONLY = {
    "torch",
    "torchvision",
    "torchmetrics",
    "scikit-learn",
    "pillow",
    "safetensors",
    "tokenizers",
}
LONGEST = 400
OF_ONE_MACHINE = re.compile(
    r"(?<![\w.}])/(?:work/\w|root/\.pyenv)"  # somebody's folders
    r"|https?://[\w.-]+\.(?:internal|corp|lan)\b(?!\.)"  # somebody's hosts
    r"|\b(?:extra-)?index[-]url\b|\b(?:UV|PIP)_\w*INDEX_URL"  # somebody's package mirror
)
UNSAFE_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FRAGMENT = re.compile(
    r"^[ \t]+[*\w.]+(?: \([^)]*\))?: (?:of|as|where|how|by|whose|what)\b.*",
    re.IGNORECASE | re.MULTILINE,
)
"""An entry of `Args`, `Attributes` or `Raises` that goes on from its name, as in `seed: Of the data`."""
GOES_ON = re.compile(r"(?:of|by|whose)\b", re.IGNORECASE)
"""The beginning of the text below a constant or a field that goes on from its name."""


def files(*patterns: str) -> list[Path]:
    """The repository's files: those that git knows or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listing.stdout.split("\0") if listing.returncode == 0 else []
    if not names:  # a copy without its git folder
        names = [
            str(path.relative_to(REPOSITORY))
            for pattern in patterns
            for path in REPOSITORY.rglob(pattern)
        ]
        names = [
            name for name in names if not any(part.startswith(".") for part in Path(name).parts)
        ]
    return [REPOSITORY / name for name in names if (REPOSITORY / name).is_file()]


def sources() -> list[Path]:
    """The Python files of the installed packages."""
    found = [
        path for path in files("*.py") if path.relative_to(REPOSITORY).parts[0] in PACKAGES
    ]
    assert len(found) > 40
    return found


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What in a module could run bytes that somebody sent."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                name.name
                for name in node.names
                if name.name.partition(".")[0] in UNSAFE_IMPORTS
            )
        elif (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").partition(".")[0] in UNSAFE_IMPORTS
        ):
            yield f"from {node.module}"
        elif isinstance(node, ast.Call):
            yield from _unsafe_call(node)


def _unsafe_call(call: ast.Call) -> Iterator[str]:
    words = {word.arg: word.value for word in call.keywords}
    name = ast.unparse(call.func)
    if name in {"eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system"}:
        yield name
    if (
        name == "torch.load"
        and ast.unparse(words.get("weights_only", ast.Constant(False))) != "True"
    ):
        yield "torch.load without weights_only=True"
    if ast.unparse(words.get("weights_only", ast.Constant(True))) == "False":
        yield "weights_only=False"
    if ast.unparse(words.get("shell", ast.Constant(False))) == "True":
        yield "shell=True"


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "eval(text)",
        "yaml.load(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "load(path, weights_only=False)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_for_unsafe_calls_finds_them(line: str) -> None:
    assert list(unsafe(ast.parse(line)))


def test_what_is_safe_is_not_reported() -> None:
    assert not list(
        unsafe(
            ast.parse("model.eval(); yaml.safe_load(text); torch.load(path, weights_only=True)")
        )
    )


def test_no_package_runs_bytes_that_somebody_sent() -> None:
    found = {str(path): list(unsafe(ast.parse(path.read_text()))) for path in sources()}
    assert {path: what for path, what in found.items() if what} == {}


def fragments(tree: ast.AST) -> list[str]:
    """The entries of docstrings that do not stand alone."""
    documented = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    )
    texts = (ast.get_docstring(node) or "" for node in documented)
    entries = [line.strip() for text in texts for line in FRAGMENT.findall(text)]
    return entries + [text for text in _below_assignments(tree) if GOES_ON.match(text)]


def _below_assignments(tree: ast.AST) -> Iterator[str]:
    """The texts that stand below a constant or a field and say what it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef):
            for first, second in pairwise(node.body):
                assigns = isinstance(first, ast.Assign | ast.AnnAssign)
                match second:
                    case ast.Expr(ast.Constant(str(text))) if assigns:
                        yield text
                    case _:
                        pass


@pytest.mark.parametrize(
    "entry",
    [
        "seed: Of the order.",
        "seed: as a study names it.",
        "seed: Where it begins.",
        "seed: how it is drawn.",
        "seed: By name.",
        "seed: Whose order.",
        "seed: What is drawn.",
        "**seeds: Of each split.",
        "seed (int): Of the order.",
        "problems.Problem: As `load`.",
    ],
)
@pytest.mark.parametrize("kind", ["class Split:", "def split():", "async def split():"])
def test_an_entry_of_a_docstring_that_goes_on_from_its_name_is_found(
    kind: str, entry: str
) -> None:
    source = f'{kind}\n    """Split.\n\n    Args:\n        {entry}\n    """\n'
    assert fragments(ast.parse(source)) == [entry]


@pytest.mark.parametrize("text", ["Of the glyphs.", "Whose answers count.", "By name."])
@pytest.mark.parametrize("place", ["SIDE = 8\n{}", "class Split:\n    side: int\n    {}"])
def test_a_text_below_a_name_that_goes_on_from_it_is_found(place: str, text: str) -> None:
    assert fragments(ast.parse(place.format(f'"""{text}"""'))) == [text]


def test_a_text_below_a_name_that_stands_alone_is_accepted() -> None:
    assert fragments(ast.parse('SIDE = 8\n"""Officially the side of the glyphs."""')) == []


def test_an_entry_of_a_docstring_that_stands_alone_is_accepted() -> None:
    source = '''"""Split.

    Args:
        seed: The number that decides on the order; whatever it is, the shares stay.
        order: Offsets of the samples.
        number: Howitzers aside, an ordinary number.

    The rest: it is prose.
    """'''
    assert fragments(ast.parse(source)) == []


def test_every_entry_of_a_docstring_stands_alone() -> None:
    found = {
        str(path.relative_to(REPOSITORY)): fragments(ast.parse(path.read_text()))
        for path in sources()
    }
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_no_module_is_longer_than_a_room() -> None:
    lengths = {
        str(path.relative_to(REPOSITORY)): len(path.read_text().splitlines())
        for path in sources()
    }
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_no_file_speaks_of_one_machine() -> None:
    found = {
        f"{path.relative_to(REPOSITORY)}: {match.group()}"
        for path in files("*")
        if path.name != "uv.lock"
        for match in OF_ONE_MACHINE.finditer(path.read_text(errors="ignore"))
    }
    assert found == set()


def test_the_server_image_has_every_dependency_but_those_of_training() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    main = {
        line for line in project["project"]["dependencies"] if _package(line) not in WORKER_ONLY
    }
    dropped = {_package(line) for line in project["project"]["dependencies"]} & WORKER_ONLY
    assert set(project["dependency-groups"]["server"]) == main
    assert dropped == WORKER_ONLY


def _package(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9-]", requirement, maxsplit=1)[0].lower()


def test_the_lock_file_names_the_public_index_only() -> None:
    lock = tomllib.loads((REPOSITORY / "uv.lock").read_text())
    registries = {
        package["source"]["registry"]
        for package in lock["package"]
        if "registry" in package["source"]
    }
    assert registries == {"https://pypi.org/simple"}
