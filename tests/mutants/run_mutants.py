"""Breaks the code on purpose, one patch at a time, and expects the test that each patch names to fail.

    python tests/mutants/run_mutants.py [--root FOLDER] [--passed] [NAME ... | --changed [COMMIT]]

A mutant is `NAME.patch` in this folder: one or more header lines `# test: tests/unit/test_x.py::test_y`, then a patch against
the root of the repository. It is applied to a copy, never to the working tree. A mutant is caught if at least one of its tests
fails; it survives if they all pass; it is broken if it does not apply or its tests cannot be run. First all named tests must pass
on a clean copy, unless `--passed` says that they just did. `--changed` runs the mutants that a change since a commit may
have to do with: where a file that the patch breaks has changed, the file of a test that it names, or the patch itself. The
heavy third-party packages are imported once, and so are our own modules as far as a mutant does not break them (imports.py).
Every run is a fork that imports the rest afresh, from its copy.
"""

import argparse
import atexit
import contextlib
import faulthandler
import gc
import importlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from _pytest.config import default_plugins
from imports import Imports, all_from
from mutant import Mutant, needs_postgres
from servers import Servers

PRELOADED = (
    "alembic.command", "alembic.config", "fastapi", "fastapi.testclient", "httpx2", "hypothesis.extra.numpy", "hypothesis.strategies", "numpy", "optuna",
    "optuna.storages._rdb.models", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "psycopg2.extras", "pydantic", "pydantic.v1", "pydantic_settings", "rich.live",
    "safetensors.torch", "sklearn.metrics", "sqlalchemy.orm", "stamina", "structlog", "torch", "torch._dynamo", "torchmetrics", "torchvision", "transformers.modeling_utils", "typer",
    "typer.testing", "uvicorn", "yaml", *(f"_pytest.{name}" for name in default_plugins),
)  # fmt: skip
PRELOAD_FROM = 4
JOBS = 2 * len(os.sched_getaffinity(0)) + 1
"""More than there are cores: many mutants make a test wait for what never comes."""
PATIENCE_S = 10
"""How long such a test waits."""
TRIES = 3
"""A test may draw its inputs at random: one draw that misses a mutant proves nothing."""
TEST_TIMEOUT_S = 120
CLEAN_LIMIT_S = 1800
"""For all named tests together, on a machine that is busy with other things."""
WRONG_COPY = 90


@dataclass(frozen=True)
class Run:
    """A forked pytest under way in `copy`."""

    mutant: Mutant
    copy: Path
    started: float
    tries: int = 1


class Workshop:
    """A clean copy of the source, `JOBS` copies to break, and a server for each."""

    def __init__(self, root: Path, folder: Path, *, preloads: bool) -> None:
        self.clean = folder / "clean"
        self.servers = Servers(self.clean, folder)
        self.benches = [folder / f"bench{number}" for number in range(JOBS)]
        self._folder = folder
        self._times = itertools.count(int(time.time()) + 60)
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        names = [name for name in listing.split("\0") if (root / name).is_file()]
        for name in [*names, *compiled(root, names)]:
            (self.clean / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, self.clean / name)
        self.imports = Imports.of(self.clean) if preloads else Imports(self.clean, ())

    def lay_out(self) -> None:
        """Make the copies to break, after the clean run has left its compiled files to share."""
        for bench in self.benches:
            shutil.copytree(self.clean, bench, symlinks=True)

    def break_(self, bench: Path, mutant: Mutant) -> str:
        """Apply the patch; the complaint if it does not apply.

        Each broken file gets a time of its own: a compiled file is recognised by size and whole seconds.
        """
        answer = subprocess.run(
            ["git", "apply", str(mutant.patch)],
            cwd=bench, env={**os.environ, "GIT_CEILING_DIRECTORIES": str(self._folder)},
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        for name in mutant.files:
            if (bench / name).exists():
                moment = next(self._times)
                os.utime(bench / name, (moment, moment))
        return answer.stderr.strip() if answer.returncode else ""

    def begin(self, bench: Path, mutant: Mutant) -> int:
        """Start the mutant's tests; the child's pid."""
        number = self.benches.index(bench)
        postgres = self.servers.url(number) if mutant.needs_postgres else None
        imported = self.imports.before(mutant)
        self.imports.make(imported)
        prepared = partial(self.imports.arrive, bench, imported)
        return fork_pytest(prepared, bench, mutant.tests, postgres=postgres)

    def mend(self, bench: Path, mutant: Mutant) -> None:
        """Put back what the patch changed."""
        for name in mutant.files:
            (bench / name).unlink(missing_ok=True)
            if (self.clean / name).exists():
                (bench / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.clean / name, bench / name)


def compiled(root: Path, names: Sequence[str]) -> Iterator[str]:
    """The compiled files of these sources that the tests have left, assertions rewritten and all.

    A compiled file tells the time and the size of its source, and is of no use beside another.
    """
    folders = {(root / name).parent / "__pycache__" for name in names if name.endswith(".py")}
    for folder in sorted(folders):
        yield from (file.relative_to(root).as_posix() for file in folder.glob("*.pyc"))


def fork_pytest(
    prepare: Callable[[], None],
    copy: Path,
    tests: Sequence[str],
    *,
    log_name: str = "mutants.log",
    limit_s: float = 2 * TEST_TIMEOUT_S,
    postgres: str | None = None,
) -> int:
    """Start pytest on `tests` in a fork whose working folder and first import path is `copy`; the child's pid.

    `prepare` sees to the modules that it has from the runner.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        # Where pytest's own limit does not reach, inside an event loop in C, the process fails as a whole.
        faulthandler.dump_traceback_later(limit_s, exit=True)
        log = os.open(copy / log_name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy)
        os.environ["TRIMTAB_TEST_PATIENCE_S"] = str(PATIENCE_S)
        os.environ |= {} if postgres is None else {"TRIMTAB_TEST_POSTGRES": postgres}
        # Of its own: runs side by side sweep away what they take for leftovers in a common one.
        scratch = copy.parent / f"tmp-{copy.name}-{log_name}"
        scratch.mkdir(exist_ok=True)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(scratch)
        prepare()
        sys.path[0] = str(copy)
        options = [
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--exitfirst",
            # Nobody reads more, and pytest looks for the source of a failure among all modules.
            "--tb=native",
            f"--timeout={TEST_TIMEOUT_S}",
            "-Wignore::pytest.PytestAssertRewriteWarning",
        ]
        code = int(pytest.main([*options, *tests]))
        sys.stdout.flush()
        os._exit(code if all_from(copy) else WRONG_COPY)
    except BaseException:  # noqa: BLE001 - the fork must never go on as if it were the runner
        os.write(2, traceback.format_exc().encode())
    os._exit(pytest.ExitCode.INTERNAL_ERROR)


def verdict(code: int) -> str:
    """What pytest's exit status says about the mutant."""
    if code == pytest.ExitCode.TESTS_FAILED:
        return "caught"
    if code == pytest.ExitCode.OK:
        return "SURVIVED"
    if code == WRONG_COPY:
        return "BROKEN (the tests did not import the copy)"
    return f"BROKEN (pytest ended with {code}: the tests could not be run)"


def preload() -> None:
    """Import what every fork would otherwise import again, pytest's plugins included, and keep it out of the garbage search."""
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()


def clean_run_passes(workshop: Workshop, mutants: Sequence[Mutant]) -> bool:
    """Run all named tests once without any patch; print the log if one fails."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    shares = [share for start in range(JOBS) if (share := tests[start::JOBS])]
    logs = [f"clean{number}.log" for number in range(len(shares))]
    runs = [
        fork_pytest(
            workshop.imports.make, workshop.clean, share, log_name=log, limit_s=CLEAN_LIMIT_S,
            postgres=workshop.servers.url(number) if needs_postgres(share) else None,
        )
        for number, (share, log) in enumerate(zip(shares, logs, strict=True))
    ]  # fmt: skip
    codes = [os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]) for run in runs]
    if not any(codes):
        return True
    for log in itertools.compress(logs, codes):
        say((workshop.clean / log).read_text(errors="replace"))
    say("The named tests do not pass without a mutant, or do not exist.")
    return False


def outcomes(
    workshop: Workshop, mutants: Sequence[Mutant]
) -> Iterator[tuple[Mutant, str, float]]:
    """Run every mutant, `JOBS` at a time; yields (mutant, verdict, seconds) as they end."""
    waiting = sorted(mutants, key=lambda mutant: turn(workshop.imports, mutant))
    free = list(workshop.benches)
    under_way: dict[int, Run] = {}
    while waiting or under_way:
        while waiting and free:
            mutant, bench = waiting.pop(0), free.pop()
            complaint = workshop.break_(bench, mutant) if mutant.tests else "it names no test"
            if complaint:
                free.append(bench)
                yield mutant, f"BROKEN ({complaint})", 0.0
            else:
                under_way[workshop.begin(bench, mutant)] = Run(mutant, bench, time.monotonic())
        if under_way:
            pid, status = os.wait()
            run = under_way.pop(pid, None)
            if run is None:
                continue  # a server that fell: who needs it says so
            outcome = verdict(os.waitstatus_to_exitcode(status))
            if outcome == "SURVIVED" and run.tries < TRIES:
                again = replace(run, tries=run.tries + 1)
                under_way[workshop.begin(run.copy, run.mutant)] = again
                continue
            workshop.mend(run.copy, run.mutant)
            free.append(run.copy)
            yield (
                run.mutant,
                outcome,
                time.monotonic() - run.started,
            )


def turn(imports: Imports, mutant: Mutant) -> tuple[bool, int, bool]:
    """Tell when a mutant's turn comes: those that may wait for long begin first, the others as the imports go on."""
    waits = any(test.startswith("tests/end_to_end/") for test in mutant.tests)
    unit = all(test.startswith("tests/unit/") for test in mutant.tests)
    return not waits, imports.before(mutant), unit


def say(text: str) -> None:
    """Print one line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def chosen(root: Path, names: Sequence[str]) -> list[Mutant]:
    """All mutants of the repository, or those named.

    Raises:
        SystemExit: a name has no patch.
    """
    folder = root / "tests" / "mutants"
    found = {path.stem: path for path in sorted(folder.glob("*.patch"))}
    unknown = [name for name in names if name not in found]
    if unknown:
        raise SystemExit(f"no such mutant in {folder}: {', '.join(unknown)}")
    return [Mutant.read(path) for name, path in found.items() if not names or name in names]


def changed_since(root: Path, commit: str) -> set[str]:
    """The files that differ from those of a commit, by each name that they had then or have now; new ones too.

    Args:
        root: The root of the repository.
        commit: Any name that git knows it by; empty for where this branch left main, which on main itself is its tip.

    Raises:
        SystemExit: git knows no such commit.
    """
    if not commit:
        commit = git(root, "merge-base", "HEAD", "main") or "HEAD"
    found = git(
        root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}"
    )
    if not found:
        raise SystemExit(f"git knows no commit {commit} in {root}")
    differ = git(root, "diff", "--name-only", "--no-renames", "-z", found)
    new = git(root, "ls-files", "--others", "--exclude-standard", "-z")
    return {name for name in f"{differ}\0{new}".split("\0") if name}


def git(root: Path, *arguments: str) -> str:
    """What it answers; empty if it refuses."""
    command = ["git", *arguments]
    answer = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def main(arguments: Sequence[str]) -> int:
    """Run the mutants; 0 if every one was caught."""
    parser = argparse.ArgumentParser(description="Expects tests to fail on broken code.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="mutants to run; all by default"
    )
    parser.add_argument(
        "--changed",
        nargs="?",
        const="",
        metavar="COMMIT",
        help="only those that a change since COMMIT may have to do with; by default since this branch left main",
    )
    parser.add_argument("--passed", action="store_true", help="all tests have just passed")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    options = parser.parse_args(arguments)
    mutants = chosen(options.root, options.names)
    if not mutants:
        raise SystemExit(f"there are no mutants in {options.root / 'tests' / 'mutants'}")
    if options.changed is not None:
        if options.names:
            parser.error("either names or --changed")
        changed = changed_since(options.root, options.changed)
        mutants = [mutant for mutant in mutants if mutant.is_of(changed, options.root)]
        if not mutants:
            say("nothing to run: no file that a mutant or its tests name has changed")
            return 0
    if len(mutants) >= PRELOAD_FROM:
        preload()
        atexit.register(gc.unfreeze)
    with (
        tempfile.TemporaryDirectory(prefix="trimtab-mutants-") as folder,
        contextlib.ExitStack() as ending,
    ):
        Path(folder).chmod(0o755)
        workshop = Workshop(
            options.root, Path(folder).resolve(), preloads=len(mutants) >= PRELOAD_FROM
        )
        ending.callback(workshop.servers.end)
        if not options.passed and not clean_run_passes(workshop, mutants):
            return 1
        workshop.lay_out()
        counts = {"caught": 0, "SURVIVED": 0, "BROKEN": 0}
        missed: list[str] = []
        for mutant, outcome, seconds in outcomes(workshop, mutants):
            counts[outcome.split(maxsplit=1)[0]] += 1
            line = f"{outcome:8} {mutant.name} ({seconds:.1f} s)"
            missed += [] if outcome == "caught" else [line]
            say(line)
    # Once more: among hundreds of lines nobody finds them.
    for line in missed:
        say(line)
    broken = f", {counts['BROKEN']} broken" if counts["BROKEN"] else ""
    say(f"{counts['caught']} caught, {counts['SURVIVED']} survived{broken}")
    return 0 if counts["caught"] == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
