"""The parts under test on this machine: a durable Postgres of our own, and the CPU that processes use."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import make_url, text

from service import embedded
from service.storage import engine, schema

TICKS = os.sysconf("SC_CLK_TCK")
START_S = 60.0


@dataclass(frozen=True)
class Bench:
    """A migrated database in a Postgres with fsync on, and a folder that goes away.

    Attributes:
        url: The address of the database.
        postmaster: The process id of Postgres.
        database: Connections to the database.
        folder: A folder for the files of the service.
        python: The interpreter that runs the service: of this checkout, or of another one.
    """

    url: str
    postmaster: int
    database: engine.Database
    folder: Path
    python: str = sys.executable

    def postgres_cpu_s(self) -> float:
        """CPU seconds of the postmaster and all its backends, ended ones included."""
        return family_cpu_s(self.postmaster)


@contextmanager
def bench() -> Generator[Bench]:
    """Start Postgres in a temporary folder."""
    with tempfile.TemporaryDirectory() as name, embedded.running(Path(name)) as postgres:
        database = engine.connect(postgres.url)
        schema.migrate(database)
        pid = int((postgres.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        yield Bench(postgres.url, pid, database, Path(name))
        database.dispose()


MIGRATE = """
import sys
from service.storage import engine, schema
schema.migrate(engine.connect(sys.argv[1]))
"""


@contextmanager
def another(bench: Bench, checkout: Path) -> Generator[Bench]:
    """Add a database to the same Postgres for the service of another checkout, which migrates it with its own code.

    Args:
        bench: The Postgres and the folder that both share.
        checkout: The root of the other checkout, whose `.venv` has its packages.
    """
    python = str(checkout / ".venv/bin/python")
    with bench.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(
            text("CREATE DATABASE before")
        )
    url = make_url(bench.url).set(database="before").render_as_string(hide_password=False)
    subprocess.run([python, "-P", "-c", MIGRATE, url], check=True)
    database = engine.connect(url)
    yield replace(bench, url=url, database=database, python=python)
    database.dispose()


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its ended children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def family_cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children, read again while children come and go."""
    while True:
        before = _children(pid)
        try:
            total = sum(cpu_s(member) for member in (pid, *before))
        except FileNotFoundError:
            continue
        if _children(pid) == before:
            return total


def _children(pid: int) -> list[int]:
    return [
        int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]


def free_port() -> int:
    """A TCP port that nobody has at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def listening(
    argv: Sequence[str], port: int, environment: Mapping[str, str] | None = None
) -> Generator[int]:
    """Run a server that leaves at end-of-file on stdin; yields its pid once the port answers.

    Raises:
        RuntimeError: it ended, or did not listen in time.
    """
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            _wait_for(process, port)
            yield process.pid
        finally:
            process.kill()


def _wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not listen on port {port}")
        time.sleep(0.05)
