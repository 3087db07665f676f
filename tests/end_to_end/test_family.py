"""The family of processes: who is started again, who leaves when, and that nobody stays behind.

The members are small programs of the test's own that keep the same conventions as the service and the worker.
"""

import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest

from trimtab.cli import family as family_module
from trimtab.cli.family import Asked, Family
from trimtab.contract import problems

PATIENCE_S = 30.0

MEMBER = """
import json, os, pathlib, sys, threading, time
sys.path[:0] = {path!r}
from trimtab import lifeline
module, argv, folder = sys.argv[1], sys.argv[2:], pathlib.Path({folder!r})
gone = threading.Event()
lifeline.watch(int(argv[argv.index("--lifeline") + 1]), gone.set)
with (folder / "begun").open("a") as begun:
    begun.write(f"{{module}} {{os.getpid()}}\\n")
{body}
gone.wait()
with (folder / "left").open("a") as left:
    left.write(f"{{module}}\\n")
"""

LISTENS = 'if module == "service": print(json.dumps({"url": "http://127.0.0.1:1", "dashboard": "x"}), flush=True)'


class Stage:
    """Where the members run, and what became of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.family = Family(folder / "data", dict(os.environ), self.said.append)
        self._monkeypatch = monkeypatch
        self.play(LISTENS)

    def play(self, body: str) -> None:
        """Let every member run `body` once it has its lifeline."""
        program = self.folder / "member.py"
        path = [str(Path(__file__).parents[2])]
        program.write_text(
            textwrap.dedent(MEMBER).format(path=path, folder=str(self.folder), body=body)
        )

        def command(module: str, argv: Sequence[str]) -> list[str]:
            return [sys.executable, str(program), module, *argv]

        self._monkeypatch.setattr(family_module, "command", command)

    def begun(self, module: str) -> list[int]:
        """The pids of the members of this kind, in the order of their beginning."""
        return [int(pid) for name, pid in self._lines("begun") if name == module]

    def left(self) -> list[str]:
        """Who left in good order, in that order."""
        return [line[0] for line in self._lines("left")]

    def start(self) -> None:
        """Start a service and one worker, and wait until both have begun."""
        self.family.start_service("127.0.0.1", 0)
        self.family.start_worker("cpu-0", "http://127.0.0.1:1", "cpu", {})
        eventually(lambda: len(self.begun("worker")) == 1)

    def _lines(self, name: str) -> list[list[str]]:
        file = self.folder / name
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Stage]:
    monkeypatch.setattr(family_module, "RESTART_S", 0.01)
    made = Stage(tmp_path, monkeypatch)
    yield made
    made.family.stop()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        threading.Event().wait(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_everyone_leaves_in_good_order_workers_first(stage: Stage) -> None:
    stage.start()
    stage.family.stop()
    assert stage.left() == ["worker", "service"]
    assert not any(map(is_running, stage.begun("service") + stage.begun("worker")))


def test_a_worker_that_is_killed_is_started_again(stage: Stage) -> None:
    stage.start()
    os.kill(stage.begun("worker")[0], signal.SIGKILL)
    eventually(lambda: len(stage.begun("worker")) == 2)
    assert "killed by SIGKILL" in stage.said[0]
    stage.family.check()
    stage.family.stop()
    assert stage.left() == ["worker", "service"]


def test_a_worker_that_keeps_failing_at_its_start_ends_the_wait(stage: Stage) -> None:
    stage.play(LISTENS + '\nif module == "worker": sys.exit("no such device")')
    stage.family.start_service("127.0.0.1", 0)
    stage.family.start_worker("cpu-0", "http://127.0.0.1:1", "cpu", {})
    with pytest.raises(problems.Unavailable, match="no such device"):
        stage.family.wait()
    assert len(stage.begun("worker")) == family_module.HOPELESS


def test_a_service_that_ends_ends_the_wait_and_its_log_is_quoted(stage: Stage) -> None:
    stage.play('print("out of luck", file=sys.stderr)\n' + LISTENS)
    stage.start()
    os.kill(stage.begun("service")[0], signal.SIGKILL)
    with pytest.raises(problems.Unavailable, match=r"(?s)killed by SIGKILL.*out of luck"):
        stage.family.wait()


def test_a_service_that_does_not_start_says_why(stage: Stage) -> None:
    stage.play('sys.exit("trimtab: the folder is in use")')
    with pytest.raises(problems.Unavailable, match="the folder is in use"):
        stage.family.start_service("127.0.0.1", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_once_everyone_leaves_in_good_order(stage: Stage, number: signal.Signals) -> None:
    handler = signal.getsignal(number)

    def body() -> None:
        with stage.family.until_asked():
            stage.start()
            os.kill(os.getpid(), number)
            stage.family.wait()

    with pytest.raises(Asked) as asked:
        body()
    assert asked.value.exit_code == 128 + number
    assert stage.left() == ["worker", "service"]
    assert signal.getsignal(number) is handler


def test_asked_twice_nobody_is_waited_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family_module, "leaves_within_s", Mock(return_value=10_000.0))
    stage.play(LISTENS + "\ngone = threading.Event()")  # deaf to its lifeline
    left_at_once: list[bool] = []

    def ask_again() -> None:
        eventually(lambda: any("Stopping" in line for line in stage.said))
        os.kill(os.getpid(), signal.SIGINT)
        pids = stage.begun("service") + stage.begun("worker")
        try:
            eventually(lambda: not any(map(is_running, pids)))
            left_at_once.append(True)
        finally:
            stage.family.kill()

    def body() -> None:
        with stage.family.until_asked():
            stage.start()
            asking.start()
            os.kill(os.getpid(), signal.SIGINT)
            stage.family.wait()

    asking = threading.Thread(target=ask_again)
    with pytest.raises(Asked):
        body()
    asking.join()
    assert left_at_once == [True]
    assert stage.left() == []


def test_a_worker_deaf_to_its_lifeline_is_killed_in_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family_module, "leaves_within_s", Mock(return_value=0.2))
    stage.play(LISTENS + '\nif module == "worker": gone = threading.Event()')
    stage.start()
    stage.family.stop()
    assert stage.left() == ["service"]
    assert not is_running(stage.begun("worker")[0])
