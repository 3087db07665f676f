"""Processes that own an embedded Postgres, and a look at what they leave."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import psycopg2

from service.embedded import EmbeddedPostgres
from service.embedded_processes import processes_in

REPOSITORY = Path(__file__).parents[2]
FAST = {"fsync": "off"}
NOBODY = 65534
NAMELESS = 54321
OWNER = """
import json, os, signal, sys, time
from dataclasses import asdict
from pathlib import Path
from service.embedded import running
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored
with running(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
    print(json.dumps({**asdict(server), "data_dir": str(server.data_dir)}), flush=True)
    if "fork" in sys.argv and os.fork() == 0:
        time.sleep(1000)
    sys.stdin.read()
"""


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        select.select([], [], [], 0.01)


def query(url: str, statement: str) -> object:
    """The first value of the first row, None without rows."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
    finally:
        connection.close()
    return row[0] if row else None


def postmaster(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().splitlines()[0])


def is_alive(pid: int) -> bool:
    """Zombies have ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


class Owner:
    """A process of its own that runs the embedded Postgres until it is told or made to end."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said, "the owner ended before its server was up"
        facts = json.loads(said)
        self.server = EmbeddedPostgres(
            facts["url"], Path(facts["data_dir"]), facts["port"], facts["keeper_pid"]
        )

    def leaves_nothing(self) -> None:
        data, keeper = self.server.data_dir, self.server.keeper_pid
        until(lambda: not processes_in(data), "postgres has ended")
        until(lambda: not is_alive(keeper), "the keeper has ended")


@contextlib.contextmanager
def owner(
    root: Path,
    *more: str,
    python: str = sys.executable,
    uid: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Generator[Owner, None, None]:
    process = subprocess.Popen(
        [python, "-P", "-c", OWNER, str(root), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), *sys.path])),
            **(env or {}),
        },
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        start_new_session=True,
    )
    try:
        begun = Owner(process)
        yield begun
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    begun.leaves_nothing()
