"""`trimtab demo` as a person runs it: what it finds, and that nothing stays behind, however it ends."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import pytest

PATIENCE_S = 120.0

pytestmark = pytest.mark.timeout(900)

ROLES: Mapping[str, str] = {
    "service": "-m service --host",
    "keeper": "-m service.embedded_keeper",
    "postgres": "bin/postgres",
    "worker": "-m worker start",
    "runner": "-m worker.runner",
}


class Demo:
    """A running demo and everything that it started."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.mark = f"TRIMTAB_TEST_MARK={folder}"
        name, _, value = self.mark.partition("=")
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trimtab.cli", "demo", "--port", "0", *options],
                cwd=folder,
                env={**os.environ, name: value, "TRIMTAB_PROGRAM": "trimtab"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def everyone(self) -> dict[int, str]:
        """The command line of every living process of the family, by pid."""
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_ours(entry):
                with contextlib.suppress(OSError):  # it has ended since
                    found[int(entry.name)] = _command_line(entry)
        return found

    def pid_of(self, role: str) -> int | None:
        """The process that plays this role."""
        if role == "demo":
            return self.process.pid
        pids = [pid for pid, line in self.everyone().items() if ROLES[role] in line]
        return min(pids, default=None)

    def wait_for(self, *roles: str) -> None:
        """Wait until these roles are played."""
        for role in roles:
            eventually(lambda role=role: self.pid_of(role), self.said)

    def said(self) -> str:
        """What the demo has printed."""
        return (self.folder / "out").read_text() + (self.folder / "err").read_text()

    def _is_ours(self, entry: Path) -> bool:
        try:
            if (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return False
            marked = self.mark.encode() in (entry / "environ").read_bytes().split(b"\0")
            # Postgres writes its titles over its environment.
            inside = (entry / "cwd").readlink().is_relative_to(self.folder)
            return marked or inside or str(self.folder) in _command_line(entry)
        except OSError:
            return False


def _command_line(entry: Path) -> str:
    return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def eventually(condition: Callable[[], object], said: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"it never happened; the demo said:\n{said()}"
        threading.Event().wait(0.05)


@pytest.fixture
def demo(tmp_path: Path) -> Generator[Demo]:
    started = Demo(tmp_path)
    yield started
    for pid in started.everyone():
        with contextlib.suppress(ProcessLookupError):  # it leaves when its starter does
            os.kill(pid, signal.SIGKILL)
    started.process.wait()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A demo that ran to its end."""
    demo = Demo(tmp_path_factory.mktemp("demo"), "--json")
    demo.process.wait(timeout=600)
    return demo


@pytest.mark.slow
def test_the_demo_ends_by_itself_with_a_tested_model(finished: Demo) -> None:
    assert finished.process.returncode == 0, finished.said()
    figures = json.loads((finished.folder / "out").read_text())
    assert set(figures) == {
        "trials",
        "handed_over",
        "validation_accuracy",
        "test_accuracy_before",
        "test_accuracy_plain",
        "test_accuracy_validated",
        "test_accuracy",
        "seconds",
        "model",
    }
    assert 0 < figures["trials"] <= 16
    assert figures["test_accuracy"] > figures["test_accuracy_before"]
    assert figures["test_accuracy"] > 0.9
    assert figures["test_accuracy_plain"] > 0.9
    assert figures["test_accuracy_validated"] > 0.9
    assert (finished.folder / figures["model"]).stat().st_size > 0
    assert finished.everyone() == {}


@pytest.mark.slow
def test_the_line_to_try_works_as_it_is_printed(finished: Demo) -> None:
    lines = (finished.folder / "err").read_text().splitlines()
    line = next(line for line in lines if line.startswith("try it"))
    program, *arguments = shlex.split(line.removeprefix("try it"))
    assert program == "trimtab"
    answer = subprocess.run(
        [sys.executable, "-m", "trimtab.cli", *arguments],
        cwd=finished.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "7" in answer.stdout


@pytest.mark.slow
def test_a_second_run_makes_a_second_study(finished: Demo) -> None:
    assert finished.process.returncode == 0
    again = Demo(finished.folder, "--json")
    eventually(lambda: "Study digits-2:" in again.said(), again.said)
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(timeout=PATIENCE_S) == 130
    assert again.everyone() == {}


def test_ctrl_c_once_leaves_in_good_order(demo: Demo) -> None:
    demo.wait_for("runner")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(timeout=PATIENCE_S) == 130
    assert demo.everyone() == {}
    assert "Traceback" not in demo.said()


def test_ctrl_c_twice_leaves_at_once(demo: Demo) -> None:
    demo.wait_for("runner")
    demo.process.send_signal(signal.SIGINT)
    eventually(lambda: "Stopping" in demo.said(), demo.said)
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(timeout=PATIENCE_S) == 130
    eventually(lambda: not demo.everyone(), demo.said)


@pytest.mark.slow
def test_sigterm_leaves_in_good_order(demo: Demo) -> None:
    demo.wait_for("runner")
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait(timeout=PATIENCE_S) == 143
    assert demo.everyone() == {}


@pytest.mark.slow
@pytest.mark.parametrize("role", ["demo", *ROLES])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_ends_and_however_nobody_stays_behind(
    demo: Demo, role: str, number: signal.Signals
) -> None:
    demo.wait_for("runner", role)
    pid = demo.pid_of(role)
    assert pid is not None
    os.kill(pid, number)
    # Postgres that is told to leave waits for its clients to go first.
    if (role, number) != ("postgres", signal.SIGTERM):
        eventually(lambda: pid not in demo.everyone(), demo.said)
    # Service, worker and runner are replaced; where the demo goes on, it still leaves when it is asked.
    if demo.process.poll() is None:
        demo.process.send_signal(signal.SIGINT)
    demo.process.wait(timeout=PATIENCE_S)
    eventually(lambda: not demo.everyone(), demo.said)
    assert "Traceback" not in demo.said()
