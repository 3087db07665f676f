import os
import signal
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from uuid import uuid4

import pytest

from trimtab.contract.leases import Failed
from worker import devices
from worker.agent.events import EventQueue, RunnerExited, RunnerMessage
from worker.agent.runner_process import RunnerProcess
from worker.pipe_messages import Ready, Steer

OBEDIENT = """
import os, signal, sys
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
os.write(int(args["--news"]), b'{"kind": "ready", "device": "' + os.environ.get("TRIMTAB_TOKEN", "none").encode() + b'"}\\n')
os.read(int(args["--lifeline"]), 1)
"""


@contextmanager
def a_runner(
    events: EventQueue, code: str = OBEDIENT, environment: Mapping[str, str] | None = None
) -> Generator[RunnerProcess]:
    runner = RunnerProcess([sys.executable, "-c", code], events.put, environment)
    try:
        yield runner
    finally:
        runner.close()


def ready(events: EventQueue) -> Ready:
    event = events.get(30)
    assert isinstance(event, RunnerMessage)
    assert isinstance(event.news, Ready)
    return event.news


def death(events: EventQueue) -> RunnerExited:
    event = events.get(30)
    assert isinstance(event, RunnerExited)
    return event


def test_a_runner_that_is_killed_is_told_as_such() -> None:
    events = EventQueue()
    with a_runner(events) as runner:
        ready(events)
        os.kill(runner.pid, signal.SIGKILL)
        assert death(events).failure.error == "killed"


def test_a_runner_that_the_kernel_killed_for_memory_is_out_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = EventQueue()
    kills = [0]
    monkeypatch.setattr(devices, "oom_kills", lambda: kills[0])
    with a_runner(events) as runner:
        ready(events)
        kills[0] = 1
        os.kill(runner.pid, signal.SIGKILL)
        failure = death(events).failure
    assert (failure.error, failure.retryable) == ("oom", True)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", "signal 6"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_runner_that_dies_by_itself_has_crashed(code: str, words: str) -> None:
    events = EventQueue()
    with a_runner(events, code):
        failure = death(events).failure
    assert (failure.error, failure.retryable) == ("crashed", True)
    assert words in failure.message


def test_a_runner_leaves_when_it_is_let_go() -> None:
    events = EventQueue()
    with a_runner(events) as runner:
        ready(events)
    assert not runner.is_alive


def test_a_runner_that_will_not_leave_is_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.agent.runner_process.LEAVE_WITHIN_S", 0.1)
    events = EventQueue()
    with a_runner(events, OBEDIENT + "import time; time.sleep(3600)") as runner:
        ready(events)
    assert not runner.is_alive


def test_a_runner_is_not_shown_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_TOKEN", "canary")
    events = EventQueue()
    with a_runner(events):
        assert ready(events).device == "none"


def test_a_runner_is_given_the_environment_that_its_agent_has_chosen() -> None:
    events, code = EventQueue(), OBEDIENT.replace("TRIMTAB_TOKEN", "OURS")
    with a_runner(events, code, {**os.environ, "OURS": "given"}):
        assert ready(events).device == "given"


def test_what_is_said_to_a_runner_that_is_closed_is_lost() -> None:
    with a_runner(EventQueue()) as runner:
        pass
    runner.send(Steer(lease_id=uuid4(), verdict="continue"))
    runner.kill(Failed(error="stalled"))
    assert not runner.is_alive
