"""Real processes to break: an embedded Postgres, two replicas of the service, workers, and proxies between them all.

worker ─ its own proxy ─┬─ replica ─ its own proxy ─┬─ Postgres
worker ─ its own proxy ─┴─ replica ─ its own proxy ─┘
"""

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras

from service import embedded
from service.embedded import EmbeddedPostgres
from service.storage.engine import normalised
from tests.faults.log import Log, LoggedTransport
from tests.faults.proxy import Network, Proxy
from trimtab import lifeline
from trimtab.client import Client

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "canary-token-that-no-log-may-show"
SWEEP_EVERY_S = 0.5
ZONES = ("UTC", "America/New_York")
DAY_S = 86400.0
WRONG_BY_S = (0.0, 3 * DAY_S, -2 * DAY_S)
"""How wrong the wall clocks of the first, second and third replica or worker are, and so on."""
TOGETHER = (1, 4)
"""How many trials at a time the first and second worker run where they are alike, and so on."""
ARTIFACTS_KEPT_S = 20.0
LEAVE_WITHIN_S = 20.0
START_WITHIN_S = 90.0


@dataclass(eq=False)
class Member:
    """A process that can be killed, paused and started again."""

    name: str
    argv: list[str]
    env: Mapping[str, str]
    log: Path
    child: lifeline.Child | None = None
    guard: threading.RLock = field(default_factory=threading.RLock)

    @property
    def is_up(self) -> bool:
        """Whether the process runs."""
        return self.child is not None and self.child.process.poll() is None

    def start(self) -> None:
        """Start it, unless it runs."""
        with self.guard:
            if self.is_up:
                return
            self.bury()
            with self.log.open("a") as log:
                self.child = lifeline.spawn(
                    [sys.executable, "-P", "-m", *self.argv],
                    env=self.env,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, if it runs."""
        with self.guard:
            if self.child is not None and self.child.process.poll() is None:
                self.child.process.send_signal(number)
                if number == signal.SIGKILL:
                    self.child.process.wait()

    def ask_to_leave(self) -> None:
        """Wake it and send SIGTERM."""
        self.kill(signal.SIGCONT)
        self.kill(signal.SIGTERM)

    def leave(self) -> None:
        """Ask it to leave and wait for it; kill it when it does not."""
        self.ask_to_leave()
        self.wait()

    def wait(self) -> None:
        """Wait until it has left; kill it when it does not."""
        if self.child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.process.wait(LEAVE_WITHIN_S)
        self.bury()

    def bury(self) -> None:
        """Make sure that it is gone."""
        with self.guard:
            if self.child is None:
                return
            self.kill()
            self.child.process.wait()
            self.child.let_go()
            if self.child.process.stdout is not None:
                self.child.process.stdout.close()
            self.child = None


class Replica(Member):
    """One process of the service; its port changes with each start."""

    port: int | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        with self.guard:
            if self.is_up:
                return
            self.port = None
            super().start()
            assert self.child is not None
            assert self.child.process.stdout is not None
            ready, _, _ = select.select([self.child.process.stdout], [], [], START_WITHIN_S)
            line = self.child.process.stdout.readline() if ready else ""
            assert line, f"{self.name} did not start: {self.log.read_text()[-2000:]}"
            self.port = int(json.loads(line)["url"].rsplit(":", 1)[1])


@dataclass
class Worker:
    """A worker process behind its own proxy."""

    member: Member
    proxy: Proxy

    def runner_pids(self) -> list[int]:
        """The pids of its children."""
        if self.member.child is None:
            return []
        pid = self.member.child.process.pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            return [int(child) for child in children.split()]
        return []


@dataclass
class Cluster:
    """What the faults are done to."""

    folder: Path
    network: Network
    postgres: EmbeddedPostgres
    replicas: list[Replica] = field(default_factory=list[Replica])
    database_links: list[Proxy] = field(default_factory=list[Proxy])
    workers: list[Worker] = field(default_factory=list[Worker])
    postgres_guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def journals(self) -> Path:
        """Where the clients' logs are."""
        return self.folder / "journals"

    def service_ports(self) -> list[int]:
        """Where replicas listen, or listened last."""
        return [replica.port for replica in self.replicas if replica.port is not None]

    def client(self, name: str) -> Client:
        """A client of its own, over a proxy that never misbehaves, with a journal."""
        proxy = self.network.proxy(self.service_ports, seed=0)
        transport = LoggedTransport(Log(self.journals / f"{name}.jsonl", name))
        return Client(
            f"http://127.0.0.1:{proxy.port}",
            TOKEN,
            timeout_s=15,
            retry_for_s=60,
            transport=transport,
        )

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Ask Postgres itself, around all proxies; waits for it if need be."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self._rows(sql, values)
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _rows(self, sql: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        url = normalised(self.postgres.url)
        connection: Any = psycopg2.connect(
            host="127.0.0.1",
            port=self.postgres.port,
            user=url.username,
            password=url.password,
            dbname=url.database,
            connect_timeout=5,
            options="-ctimezone=UTC",
        )
        try:
            connection.autocommit = True
            with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(sql, values)
                return [dict(row) for row in cursor.fetchall()]
        finally:
            connection.close()

    def value(self, sql: str, **values: Any) -> Any:
        """The only value of the only row."""
        (row,) = self.rows(sql, **values)
        return next(iter(row.values()))

    def postmaster(self) -> int | None:
        """The pid of the Postgres server, if it runs."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int((self.postgres.data_dir / "postmaster.pid").read_text().split()[0])
        return None

    def heal(self) -> None:
        """End every fault and bring everyone up."""
        for proxy in (*self.database_links, *(worker.proxy for worker in self.workers)):
            proxy.heal()
        for member in (*self.replicas, *(worker.member for worker in self.workers)):
            member.kill(signal.SIGCONT)
            member.start()

    def stop(self) -> None:
        """Let everyone leave, workers first."""
        for proxy in (*self.database_links, *(worker.proxy for worker in self.workers)):
            proxy.heal()
        self.stop_workers()
        self.stop_replicas()

    def stop_replicas(self) -> None:
        """Let the replicas leave."""
        for replica in self.replicas:
            replica.ask_to_leave()
        for replica in self.replicas:
            replica.wait()

    def stop_workers(self) -> None:
        """Let the workers leave."""
        for worker in self.workers:
            worker.member.ask_to_leave()
        for worker in self.workers:
            worker.member.wait()


@contextmanager
def running(folder: Path, *, workers: int, replicas: int = 2) -> Generator[Cluster]:
    """Start a cluster below `folder`; everyone has left when the block ends."""
    (folder / "journals").mkdir(parents=True)
    with Network() as network, embedded.running(folder / "state") as postgres:
        cluster = Cluster(folder, network, postgres)
        for number in range(replicas):
            link = network.proxy(lambda: [postgres.port], seed=100 + number)
            cluster.database_links.append(link)
            cluster.replicas.append(_replica(cluster, number, link))
        for number in range(workers):
            cluster.workers.append(_worker(cluster, number))
        try:
            for member in (*cluster.replicas, *(worker.member for worker in cluster.workers)):
                member.start()
            yield cluster
        finally:
            cluster.stop()


def until(condition: Callable[[], object], at_most_s: float, every_s: float = 0.05) -> bool:
    """Wait until the condition holds; False when it does not within `at_most_s` seconds."""
    deadline = time.monotonic() + at_most_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def _replica(cluster: Cluster, number: int, link: Proxy) -> Replica:
    url = normalised(cluster.postgres.url).set(port=link.port)
    env = _environment(number) | {
        "TRIMTAB_DATABASE_URL": url.render_as_string(hide_password=False),
        "TRIMTAB_ARTIFACTS_DIR": str(cluster.folder / "artifacts"),
        "TRIMTAB_TOKEN": TOKEN,
        "TRIMTAB_SWEEP_EVERY_S": str(SWEEP_EVERY_S),
        "TRIMTAB_POOL_SIZE": "16",
        "TRIMTAB_ARTIFACTS_KEPT_S": str(ARTIFACTS_KEPT_S),
        # Each lives in a time zone of its own, which should make no difference.
        "TZ": ZONES[number % len(ZONES)],
        "PGTZ": ZONES[number % len(ZONES)],
    }
    name = f"service-{number}"
    return Replica(name, ["service", "--port", "0"], env, cluster.folder / f"{name}.log")


def _worker(cluster: Cluster, number: int) -> Worker:
    name = f"worker-{number}"
    copies = Log(cluster.journals / f"copies-{number}.jsonl", f"copies-{number}")
    proxy = cluster.network.proxy(cluster.service_ports, seed=number, copies=copies)
    argv = [
        "tests.faults.worker",
        *("--server", f"http://127.0.0.1:{proxy.port}"),
        *("--label", name),
        *("--cache-dir", str(cluster.folder / name)),
        *("--log", str(cluster.journals)),
        *("--together", str(TOGETHER[number % len(TOGETHER)])),
    ]
    env = _environment(number) | {"TRIMTAB_TOKEN": TOKEN}
    return Worker(Member(name, argv, env, cluster.folder / f"{name}.log"), proxy)


def _environment(number: int) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")
    }
    return kept | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent / "wrong_clock")]),
        "TRIMTAB_WORKER_CLOCK_WRONG_BY_S": str(WRONG_BY_S[number % len(WRONG_BY_S)]),
        "OMP_NUM_THREADS": "1",
    }


def chances(seed: int, name: str) -> random.Random:
    """A source of chance of its own for each purpose."""
    return random.Random(f"{seed}/{name}")
