"""A fleet of workers on two replicas and one Postgres: what it costs, and what the same fleet costs plain Optuna.

`./run bench fleet [--workers 1000] [--seconds 60] [--every 10] [--peers 50,100,200] [--json]`

Simulated workers speak the real protocol over HTTP, each on a connection of its own, fifty in a process: they claim,
report an epoch every so many seconds, send heartbeats between, and settle; nothing is trained. Parts, one after the other:

- busy: all workers train. Requests a second and their wall time by verb, processor time of the replicas and of Postgres as a
  share of one core, and the bytes by which the database grows with each report.
- idle: the same fleet with nothing to do, its claims held open: processor time for each worker.
- peer: plain Optuna's RDBStorage on the same Postgres at the same pace, for each of the fleets named; a fleet is borne when
  nine of ten reports take 100 ms at most and nothing was refused. Its sampler and pruner run in the workers: theirs is the
  service's work.

Postgres is durable, and no answer is quicker than its disk: `disk` is what writing 8 kB durably takes meanwhile, alone. All
share this machine's cores, the simulated workers too, whose processor time is told apart.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from tests.benchmarks.control_plane_ways import document, optuna_study, service
from tests.benchmarks.machine import Bench, bench, cpu_s, family_cpu_s
from tests.support.records import a_record
from trimtab.client import Client
from trimtab.contract.leases import Completed, LeaseRequest
from trimtab.contract.workers import Registration

REPLICAS = 2
EACH = 50
"""Workers in a process."""
BORNE_MS = 100.0
STUDY = "fleet"
SETTLED_S = 5.0
"""Seconds from the start of a fleet, beside one pace, until it is measured: all of its workers train by then."""


@dataclass(frozen=True)
class Fleet:
    """A running fleet: its processes, and how it is spoken to."""

    processes: Sequence["subprocess.Popen[str]"]

    def cpu_s(self) -> float:
        """Processor seconds of the simulated workers."""
        return sum(cpu_s(process.pid) for process in self.processes)

    def say(self, word: str) -> None:
        """Write a line to each."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()

    def told(self) -> list[Any]:
        """Return what each answers to `tell`."""
        self.say("tell")
        return [json.loads(_line(process)) for process in self.processes]


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise RuntimeError(f"{process.args!r} has died")
    return line


@contextmanager
def fleet(module: str, workers: int, asked: Mapping[str, Any]) -> Generator[Fleet]:
    """Start so many simulated workers; they are at work when this returns."""
    with ExitStack() as stack:
        processes: list[subprocess.Popen[str]] = []
        for first in range(0, workers, EACH):
            part = {**asked, "first": first, "workers": min(EACH, workers - first)}
            argv = [sys.executable, "-m", module, json.dumps(part)]
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(argv, **pipes))
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            if _line(process).strip() != "ready":
                raise RuntimeError(f"{process.args!r} is not ready")
        yield Fleet(processes)


@dataclass
class Disk:
    """How long a durable write takes, tried fifty times a second for as long as the block lasts."""

    path: Path
    ms: list[float] = field(default_factory=list[float])

    @contextmanager
    def watched(self) -> Generator[None]:
        """Write in a thread of its own."""
        over = threading.Event()
        thread = threading.Thread(target=self._write, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _write(self, over: threading.Event) -> None:
        with self.path.open("wb", buffering=0) as file:
            while not over.wait(0.02):
                began = time.perf_counter()
                os.pwrite(file.fileno(), bytes(8192), 0)
                os.fdatasync(file.fileno())
                self.ms.append(1e3 * (time.perf_counter() - began))


@dataclass(frozen=True)
class Window:
    """What happened within some seconds."""

    seconds: float
    disk_ms: Sequence[float]
    ms: Mapping[str, Sequence[float]]
    refused: Sequence[str]
    service_s: float
    postgres_s: float
    workers_s: float

    def figures(self) -> dict[str, Any]:
        """Return rates, wall milliseconds and shares of one core."""
        verbs = {
            verb: {"per_s": round(len(those) / self.seconds, 2), **_shares(those)}
            for verb, those in sorted(self.ms.items())
            if those
        }
        return {
            **verbs,
            "disk": _shares(self.disk_ms),
            "refused": len(self.refused),
            "service_cores": round(self.service_s / self.seconds, 3),
            "postgres_cores": round(self.postgres_s / self.seconds, 3),
            "workers_cores": round(self.workers_s / self.seconds, 3),
        }


def _shares(ms: Sequence[float]) -> dict[str, float]:
    ordered = sorted(ms)
    return {
        f"p{share}_ms": round(ordered[len(ordered) * share // 100], 2) for share in (50, 90, 99)
    }


def window(running: Fleet, parts: Bench, pids: Sequence[int], seconds: float) -> Window:
    """Watch a fleet for some seconds."""

    def used() -> tuple[float, float, float]:
        return (
            sum(family_cpu_s(pid) for pid in pids),
            parts.postgres_cpu_s(),
            running.cpu_s(),
        )

    disk = Disk(parts.folder / "disk")
    running.say("go")
    began, before = time.monotonic(), used()
    with disk.watched():
        time.sleep(seconds)
    after, lasted = used(), time.monotonic() - began
    told = running.told()
    ms = {
        verb: [one for each in told for one in each["ms"].get(verb, ())]
        for verb in ("claim", "report", "heartbeat", "settle")
    }
    refused = [one for each in told for one in each["refused"]]
    spent = [late - early for early, late in zip(before, after, strict=True)]
    return Window(lasted, disk.ms, ms, refused, *spent)


def a_study(client: Client) -> None:
    """Create the study that everybody works on, and let its first trial tell the data."""
    client.create_study(document(STUDY, "random", lease_ttl_s=60))
    worker = client.register(Registration(label="first", device="none"))
    (lease,) = client.claim(LeaseRequest(worker_id=worker.worker_id, claim_id=uuid4())).leases
    client.record(lease.lease_id, a_record())
    client.settle(lease.lease_id, Completed(value=0.6))


def busy(
    parts: Bench, urls: Sequence[str], pids: Sequence[int], options: Any
) -> dict[str, Any]:
    """Let the whole fleet train."""
    asked = {"urls": urls, "every_s": options.every, "reports": options.reports}
    with fleet("tests.benchmarks.fleet_side", options.workers, asked) as running:
        time.sleep(options.every + SETTLED_S)
        rows, size = _reports(parts), _bytes(parts)
        seen = window(running, parts, pids, options.seconds)
        grown = (_bytes(parts) - size) / max(1, _reports(parts) - rows)
    figures = seen.figures() | {"bytes_a_report": round(grown)}
    _tell(f"{options.workers} busy workers", figures, seen.refused)
    return figures


def idle(
    parts: Bench, urls: Sequence[str], pids: Sequence[int], options: Any
) -> dict[str, Any]:
    """Let the whole fleet wait for work."""
    asked = {"urls": urls, "every_s": 1.0, "reports": 1}
    with fleet("tests.benchmarks.fleet_side", options.workers, asked) as running:
        time.sleep(SETTLED_S)
        seen = window(running, parts, pids, options.seconds)
    spent_ms = 1e3 * (seen.service_s + seen.postgres_s) / seen.seconds
    figures = seen.figures() | {"ms_a_worker_and_second": round(spent_ms / options.workers, 4)}
    _tell(f"{options.workers} idle workers", figures, seen.refused)
    return figures


def peer(parts: Bench, workers: int, options: Any) -> dict[str, Any]:
    """Let so many workers of plain Optuna train."""
    name = optuna_study(parts, 0)
    asked = {"url": parts.url, "study": name} | {
        "every_s": options.every,
        "reports": options.reports,
    }
    with fleet("tests.benchmarks.fleet_peer", workers, asked) as running:
        time.sleep(options.every + SETTLED_S)
        seen = window(running, parts, (), options.seconds)
    figures = seen.figures()
    figures["is_borne"] = not seen.refused and figures["report"]["p90_ms"] <= BORNE_MS
    _tell(f"{workers} workers of Optuna", figures, seen.refused)
    return figures


def _reports(parts: Bench) -> int:
    return _number(parts, "SELECT count(*) FROM trimtab.reports")


def _bytes(parts: Bench) -> int:
    return _number(parts, "SELECT pg_database_size(current_database())")


def _number(parts: Bench, sql: str) -> int:
    with parts.database.statements() as connection:
        return connection.execute(text(sql)).scalar_one()


def _tell(name: str, figures: Mapping[str, Any], refused: Sequence[str]) -> None:
    say(f"{name}: load {os.getloadavg()[0]:.1f}")
    for key, value in figures.items():
        say(f"  {key:>24}: {value}")
    if refused:
        say(f"  refused, for example: {refused[0]}")


def say(line: str) -> None:
    """Print as it comes."""
    print(line, flush=True)  # noqa: T201 - the table is the product


def main() -> None:
    """Parse, measure, print."""
    options = _options()
    found: dict[str, Any] = {"workers": options.workers, "every_s": options.every}
    with bench() as parts, ExitStack() as stack:
        replicas = [stack.enter_context(service(parts)) for _ in range(REPLICAS)]
        urls = [address for _, _, address in replicas]
        pids = [pid for _, pid, _ in replicas]
        client = replicas[0][0]
        found["idle"] = idle(parts, urls, pids, options)
        a_study(client)
        found["busy"] = busy(parts, urls, pids, options)
        client.cancel(STUDY)
        found["peer"] = {str(count): peer(parts, count, options) for count in options.peers}
    if options.json:
        say(json.dumps(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench fleet", description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each part")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two reports")
    parser.add_argument("--reports", type=int, default=3, help="epochs of a trial")
    parser.add_argument(
        "--peers", type=_counts, default=[50, 100, 200], help="fleets of Optuna"
    )
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _counts(told: str) -> list[int]:
    return [int(one) for one in told.split(",") if one]


if __name__ == "__main__":
    main()
