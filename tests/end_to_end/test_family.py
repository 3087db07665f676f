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
from typing import cast

import pytest

from tests.support.documents import a_document
from trimtab.cli import family as family_module
from trimtab.cli.family import Asked, Family
from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.studies import StudyDocument

PATIENCE_S = 30.0

MEMBER = """
import json, os, pathlib, sys, threading, time
sys.path[:0] = {path!r}
from trimtab import lifeline
module, argv, folder = sys.argv[1], sys.argv[2:], pathlib.Path({folder!r})
gone = threading.Event()
lifeline.watch(int(argv[argv.index("--lifeline") + 1]), gone.set)
with (folder / "begun").open("a") as begun:
    begun.write(f"{{module}} {{os.getpid()}} {{' '.join(argv)}}\\n")
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
        return [int(pid) for name, pid, *_ in self._lines("begun") if name == module]

    def arguments(self, module: str) -> list[list[str]]:
        """The arguments of the members of this kind, in the order of their beginning."""
        return [argv for name, _, *argv in self._lines("begun") if name == module]

    def left(self) -> list[str]:
        """Who left in good order, in that order."""
        return [line[0] for line in self._lines("left")]

    def set(self, **settings: str) -> None:
        """Let the family have these settings of workers in its environment."""
        found = {f"TRIMTAB_WORKER_{name}": value for name, value in settings.items()}
        self.family = Family(self.folder / "data", {**os.environ, **found}, self.said.append)

    def goes_on(self) -> bool:
        """True; raises the problem that ended the family, if there is one."""
        self.family.check()
        return True

    def be_ready(self) -> None:
        """Let the service be ready."""
        self.family.wait_until_ready(cast(Client, Ready()))

    def start(self) -> None:
        """Start a service and one worker, and wait until both have begun."""
        self.family.start_service("127.0.0.1", 0)
        self.family.start_worker("cpu-0", "http://127.0.0.1:1", "cpu", {})
        eventually(lambda: len(self.begun("worker")) == 1)

    def _lines(self, name: str) -> list[list[str]]:
        file = self.folder / name
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


class Ready:
    """A client of a service that is ready."""

    def is_ready(self) -> bool:
        return True


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


def test_a_service_that_is_killed_is_started_again_at_its_address_and_the_workers_stay(
    stage: Stage,
) -> None:
    stage.start()
    stage.be_ready()
    os.kill(stage.begun("service")[0], signal.SIGKILL)
    eventually(lambda: stage.goes_on() and len(stage.begun("service")) == 2)
    assert stage.said == ["The service ended (killed by SIGKILL); starting it again."]
    first, second = (argv[argv.index("--port") + 1] for argv in stage.arguments("service"))
    assert (first, second) == ("0", "1")  # any free one, then that of the address
    assert len(stage.begun("worker")) == 1
    stage.family.check()
    stage.family.stop()
    assert stage.left() == ["worker", "service"]


def test_a_service_that_keeps_ending_ends_the_wait(stage: Stage) -> None:
    stage.play(f"""{LISTENS}
if module == "service":
    while not (folder / "was_ready").exists():
        time.sleep(0.01)
    sys.exit("trimtab: the disk is gone")""")
    stage.family.start_service("127.0.0.1", 0)
    stage.be_ready()
    # One that ends before it was ready is another matter.
    (stage.folder / "was_ready").touch()
    with pytest.raises(problems.Unavailable, match=r"(?s)3 times in a row.*the disk is gone"):
        stage.family.wait()
    assert len(stage.begun("service")) == family_module.HOPELESS
    with (
        pytest.raises(problems.Unavailable, match="the disk is gone"),
        stage.family.explaining(),
    ):
        raise problems.Unreachable


def test_no_worker_is_given_up_for_a_service_that_does_not_answer(stage: Stage) -> None:
    times = family_module.HOPELESS + 2
    stage.play(f"""{LISTENS}
if module == "worker" and (folder / "begun").read_text().count("worker ") <= {times}:
    sys.exit(3)""")
    stage.family.start_service("127.0.0.1", 0)
    stage.family.start_worker("cpu-0", "http://127.0.0.1:1", "cpu", {})
    eventually(lambda: stage.goes_on() and len(stage.begun("worker")) == times + 1)
    stage.family.check()


def test_a_worker_that_leaves_for_want_of_work_is_not_started_again(stage: Stage) -> None:
    stage.play(LISTENS + '\nif module == "worker": sys.exit(0)')
    stage.set(EXIT_WHEN_IDLE_S="60")
    stage.start()
    eventually(lambda: stage.said)
    assert stage.said == ["Worker cpu-0 left: there was no work for it."]
    stage.family.check()
    assert len(stage.begun("worker")) == 1


@pytest.mark.parametrize("folder", ["", "/elsewhere"])
def test_the_workers_cache_is_where_the_setting_says(stage: Stage, folder: str) -> None:
    stage.set(CACHE_DIR=folder)
    stage.start()
    (argv,) = stage.arguments("worker")
    if folder:
        # The worker reads the setting itself, as it does when it is started alone.
        assert "--cache-dir" not in argv
    else:
        assert argv[argv.index("--cache-dir") + 1] == str(stage.folder / "data" / "cache")


def test_a_worker_is_waited_for_as_long_as_its_grace(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family_module, "GRACE_S", 0.0)
    monkeypatch.setattr(family_module, "ENDING_S", 0.0)
    # Its trial takes a moment to hand over: longer than anybody waits but for its grace.
    stage.play(LISTENS + '\nif module == "worker": gone.wait(); time.sleep(0.5)')
    stage.set(GRACE_S="30")
    stage.start()
    stage.family.stop()
    assert stage.left() == ["worker", "service"]


def test_a_real_service_that_is_killed_comes_back_with_its_database_and_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family_module, "RESTART_S", 0.01)
    said: list[str] = []
    family = Family(tmp_path, dict(os.environ), said.append)
    try:
        address = family.start_service("127.0.0.1", 0)
        with Client(address.url, retry_for_s=60) as client:
            family.wait_until_ready(client)
            name = client.create_study(StudyDocument.model_validate(a_document())).name
            pid = (tmp_path / "postgres" / "lock").read_text()  # the owner's
            os.kill(int(pid), signal.SIGKILL)
            eventually(lambda: said)
            assert client.study(name).state == "active"
        family.check()
        assert "killed by SIGKILL" in said[0]
    finally:
        family.stop()


def test_a_service_that_ends_before_it_is_ready_ends_the_wait_and_its_log_is_quoted(
    stage: Stage,
) -> None:
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
    monkeypatch.setattr(family_module, "GRACE_S", 10_000.0)
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
    monkeypatch.setattr(family_module, "GRACE_S", 0.2)
    monkeypatch.setattr(family_module, "ENDING_S", 0.0)
    stage.play(LISTENS + '\nif module == "worker": gone = threading.Event()')
    stage.start()
    stage.family.stop()
    assert stage.left() == ["service"]
    assert not is_running(stage.begun("worker")[0])
