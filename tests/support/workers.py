"""Real worker processes under test."""

import os
import select
import signal
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trimtab import lifeline
from trimtab.client import Client

REPOSITORY = Path(__file__).parents[2]
SCRIPTED = "tests.support.scripted_runner"


@dataclass
class WorkerProcess:
    """A started `python -P -m worker start`."""

    child: lifeline.Child

    @property
    def pid(self) -> int:
        """Of the agent."""
        return self.child.process.pid

    def runner_pid(self) -> int:
        """Of its runner, which must be running."""
        (pid,) = children_of(self.pid)
        return pid

    def send(self, number: int) -> None:
        """Send a signal to the agent alone."""
        os.kill(self.pid, number)

    def wait(self, within_s: float = 60.0) -> int:
        """Return its exit code."""
        return self.child.process.wait(within_s)


@contextmanager
def a_worker(
    server: str,
    cache_dir: Path,
    *options: str,
    runner: str = SCRIPTED,
    script: str = "",
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Generator[WorkerProcess]:
    """Start a worker; at the end it is killed if it has not left."""
    argv = [*prefix, sys.executable, "-P", "-m", "worker", "start", "--server", server]
    child = lifeline.spawn(
        [*argv, "--cache-dir", str(cache_dir), "--label", "tester", *options],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "TRIMTAB_WORKER_RUNNER": runner,
            "TRIMTAB_WORKER_SCRIPT": script,
            **(env or {}),
        },
    )
    try:
        yield WorkerProcess(child)
    finally:
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGKILL)
        child.process.wait()
        child.let_go()


def server_of(client: Client) -> str:
    """Return the address of a client's service."""
    return client.info().dashboard.removesuffix("/dashboard")


def children_of(pid: int) -> list[int]:
    """List the running children of a process."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def wait_until_gone(pid: int, within_s: float = 30.0) -> None:
    """Wait for a process that is not our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        readable, _, _ = select.select([descriptor], [], [], within_s)
        assert readable, f"process {pid} is still there after {within_s} s"
    finally:
        os.close(descriptor)
