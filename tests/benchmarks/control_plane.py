"""The control plane against Optuna's own ways, on the same Postgres, in one run.

`./run bench control-plane [--json] [--clients 1,8,32,128] [--finished 100,1000,10000,50000] [--seconds S] [--rounds N]`

A trial is a claim, ten reports with a verdict each, and an outcome, in a study of 1,000 finished trials. CPU a trial is
measured with random sampling, so that the sampler's mathematics stays out; trials per second, and claims by finished
trials, with TPE (multivariate, constant liar), as studies have it. CPU is read from /proc:
of the service (or gRPC proxy), of Postgres with all its backends, and of the clients, apart. Postgres is durable
(fsync on). Peers: (rdb) Optuna on RDBStorage directly, (grpc) through Optuna's gRPC storage proxy.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from service import embedded
from service.embedded import EmbeddedPostgres
from service.storage import engine, schema
from tests.benchmarks import loads
from tests.benchmarks.filling import fill
from trimtab.client import Client
from trimtab.contract.leases import Completed, LeaseRequest
from trimtab.contract.studies import StudyDocument
from trimtab.contract.workers import Registration

TICKS = os.sysconf("SC_CLK_TCK")
PEER_PROCESSES = 4
MANY = 1_000_000
FINISHED = 1000
WAYS = ("ours", "rdb", "grpc")


def document(name: str, sampler: str) -> StudyDocument:
    """Three log ranges, as in the peers' space."""
    return StudyDocument.model_validate(
        {
            "name": name,
            "task": {
                "kind": "classification",
                "dataset": {"kind": "builtin", "name": "digits"},
            },
            "model": {"backbone": "glyphnet"},
            "space": {
                "learning_rate": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True},
                "weight_decay": {"kind": "float", "low": 1e-6, "high": 1e-1, "log": True},
                "warmup_epochs": {"kind": "float", "low": 1e-2, "high": 1e1, "log": True},
            },
            "search": {"sampler": sampler, "pruner": "none"},
            "budget": {"trials": MANY},
        }
    )


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds that the processes and their ended children have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += sum(int(field) for field in fields[11:15])
    return total / TICKS


def family(pid: int) -> list[int]:
    """The process and its living children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


@dataclass(frozen=True)
class Bench:
    """The parts under test."""

    postgres: EmbeddedPostgres
    postmaster: int
    database: engine.Database

    def postgres_cpu_s(self) -> float:
        """CPU of the postmaster and all its backends, ended ones included."""
        return cpu_s(family(self.postmaster))


@dataclass(frozen=True)
class Throughput:
    """What one round at one number of clients measured."""

    trials_per_s: float
    server_ms: float
    client_ms: float
    quantiles: dict[str, tuple[float, float]]


@contextmanager
def _service(bench: Bench, folder: Path) -> Generator[tuple[Client, int, str]]:
    environment = {**os.environ, "TRIMTAB_DATABASE_URL": bench.postgres.url}
    argv = [sys.executable, "-P", "-m", "service", "--port", "0", "--data-dir", str(folder)]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        url: str = json.loads(process.stdout.readline())["url"]
        with Client(url) as client:
            while not client.is_ready():
                time.sleep(0.05)
            yield client, process.pid, url
        process.terminate()


def measure_ours(
    bench: Bench, folder: Path, sampler: str, clients: int, seconds: float
) -> Throughput:
    """Our service over HTTP, a fresh process with a fresh study."""
    with _service(bench, folder) as (client, pid, url):
        name = f"ours-{uuid4().hex[:12]}"
        client.create_study(document(name, sampler))
        fill(bench.database, name, document(name, sampler), FINISHED)
        loads.run(url, clients, 1.0)  # warm: connections opened, statements planned
        before = cpu_s([pid]), bench.postgres_cpu_s(), time.process_time(), time.monotonic()
        timings = loads.run(url, clients, seconds)
        service = cpu_s([pid]) - before[0] + bench.postgres_cpu_s() - before[1]
        spent, elapsed = time.process_time() - before[2], time.monotonic() - before[3]
        client.cancel(name)
    return Throughput(
        timings.trials / elapsed,
        1e3 * service / timings.trials,
        1e3 * spent / timings.trials,
        {
            verb: (timings.quantile(verb, 0.5), timings.quantile(verb, 0.99))
            for verb in ("claim", "report", "settle")
        },
    )


def measure_optuna(
    bench: Bench, kind: str, sampler: str, clients: int, seconds: float
) -> Throughput:
    """Optuna's workers, four processes of threads, on RDBStorage or through a gRPC proxy on it."""
    name = _optuna_study(bench, FINISHED)
    with _proxy(bench, kind) as (url, proxy):
        pids = [] if proxy is None else [proxy]
        before = cpu_s(pids), bench.postgres_cpu_s()
        results = _peers([kind, url, name], sampler, clients, seconds)
        server = cpu_s(pids) - before[0] + bench.postgres_cpu_s() - before[1]
    trials = sum(result["trials"] for result in results)
    spent = sum(result["cpu_s"] for result in results)
    asks = sorted(ask for result in results for ask in result["asks"])
    return Throughput(
        trials / max(result["seconds"] for result in results),
        # Optuna's clients are where its storage works: with rdb they are the service.
        1e3 * (server + spent) / trials,
        1e3 * spent / trials,
        {"claim": (asks[len(asks) // 2], asks[int(0.99 * len(asks))])},
    )


def _peers(
    where: Sequence[str], sampler: str, clients: int, seconds: float
) -> list[dict[str, Any]]:
    processes = min(clients, PEER_PROCESSES)
    shares = [
        clients // processes + (number < clients % processes) for number in range(processes)
    ]
    argv = [sys.executable, "-m", "tests.benchmarks.optuna_peer", "work", *where]
    running = [
        subprocess.Popen(
            [*argv, str(share), str(seconds), sampler], stdout=subprocess.PIPE, text=True
        )
        for share in shares
    ]
    return [json.loads(process.communicate()[0]) for process in running]


@contextmanager
def _proxy(bench: Bench, kind: str) -> Generator[tuple[str, int | None]]:
    if kind == "rdb":
        yield bench.postgres.url, None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [
        sys.executable,
        "-m",
        "tests.benchmarks.optuna_peer",
        "serve",
        bench.postgres.url,
        str(port),
    ]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.1)
        yield f"127.0.0.1:{port}", process.pid
        process.kill()


def _optuna_study(bench: Bench, finished: int) -> str:
    """A study of Optuna alone: made by ours, whose rows Optuna reads, and never served."""
    name = f"peer-{uuid4().hex[:12]}"
    from service.storage import studies

    with bench.database.transaction() as connection:
        row = studies.insert(connection, document(name, "tpe"))
        studies.set_state(connection, row.study_id, "cancelled", "study_cancelled")
    fill(bench.database, name, document(name, "tpe"), finished)
    return name


def claims_ours(bench: Bench, folder: Path, finished: int, claims: int) -> tuple[float, float]:
    """Milliseconds of a cold service's first claim and the median of the next ones, under TPE."""
    with _service(bench, folder) as (client, _, _):
        name = f"claims-{uuid4().hex[:12]}"
        client.create_study(document(name, "tpe"))
        fill(bench.database, name, document(name, "tpe"), finished)
        worker = client.register(Registration(label="bench", device="none"))
        times: list[float] = []
        for _ in range(claims + 1):
            started = time.perf_counter()
            (lease,) = client.claim(
                LeaseRequest(worker_id=worker.worker_id, claim_id=uuid4())
            ).leases
            times.append(1e3 * (time.perf_counter() - started))
            client.settle(lease.lease_id, Completed(value=0.5))
        client.cancel(name)
    return times[0], statistics.median(times[1:])


def claims_rdb(bench: Bench, finished: int, asks: int) -> tuple[float, float]:
    """The same for Optuna's RDBStorage: its first ask loads the study, the next ones do not."""
    from tests.benchmarks import optuna_peer

    optuna_peer.optuna.logging.set_verbosity(optuna_peer.optuna.logging.ERROR)
    study = optuna_peer.optuna.load_study(
        study_name=_optuna_study(bench, finished),
        storage=optuna_peer.storage_of("rdb", bench.postgres.url),
        sampler=optuna_peer.sampler_of("tpe", 0),
    )
    times: list[float] = []
    for _ in range(asks + 1):
        started = time.perf_counter()
        trial = study.ask(optuna_peer.SPACE)
        times.append(1e3 * (time.perf_counter() - started))
        study.tell(trial, 0.5)
    return times[0], statistics.median(times[1:])


def _measure(
    bench: Bench, folder: Path, way: str, sampler: str, clients: int, seconds: float
) -> Throughput:
    if way == "ours":
        return measure_ours(bench, folder, sampler, clients, seconds)
    return measure_optuna(bench, way, sampler, clients, seconds)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the table is the product


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _throughput(
    arguments: argparse.Namespace,
    bench: Bench,
    folder: Path,
    clients: int,
    figures: dict[str, Any],
) -> None:
    """Measure every way in turn, round after round, and print medians with their spread."""
    rounds: dict[tuple[str, str], list[Throughput]] = {}
    for _ in range(arguments.rounds):
        for sampler in ("random", "tpe"):
            for way in WAYS:
                one = _measure(bench, folder, way, sampler, clients, arguments.seconds)
                rounds.setdefault((way, sampler), []).append(one)
    for way in WAYS:
        _report(way, clients, rounds[way, "random"], rounds[way, "tpe"], figures)
    pairs = [
        ours.trials_per_s / max(rdb.trials_per_s, grpc.trials_per_s)
        for ours, rdb, grpc in zip(*(rounds[way, "tpe"] for way in WAYS), strict=True)
    ]
    _say(f"      {clients:>4} clients: trials/s {_spread(pairs)} x the best Optuna way")


def _report(
    way: str,
    clients: int,
    random: Sequence[Throughput],
    tpe: Sequence[Throughput],
    figures: dict[str, Any],
) -> None:
    cpu, rates = [one.server_ms for one in random], [one.trials_per_s for one in tpe]
    client_ms = statistics.median(one.client_ms for one in random)
    verbs = "  ".join(
        f"{verb} {p50:.0f}/{p99:.0f}" for verb, (p50, p99) in tpe[0].quantiles.items()
    )
    _say(
        f"{way:>5} {clients:>4} clients: CPU ms a trial {_spread(cpu)}, "
        f"clients {client_ms:.1f} {'apart' if way == 'ours' else 'included'}; with TPE: "
        f"trials/s {_spread(rates)}, CPU ms {_spread([one.server_ms for one in tpe])}, p50/p99 ms {verbs}"
    )
    figures["cpu_ms_per_trial"][way][clients] = round(statistics.median(cpu), 2)
    figures["trials_per_s"][way][clients] = round(statistics.median(rates), 2)


def run(arguments: argparse.Namespace, bench: Bench, folder: Path) -> dict[str, Any]:
    """Measure everything and print as it comes; returns the figures."""
    figures: dict[str, Any] = {
        key: {way: {} for way in WAYS} for key in ("cpu_ms_per_trial", "trials_per_s")
    }
    for clients in arguments.clients:
        _throughput(arguments, bench, folder, clients, figures)
    figures["claim_ms_by_finished"] = {"ours": {}, "rdb": {}}
    for finished in arguments.finished:
        first, median = claims_ours(bench, folder, finished, 30)
        peer_first, peer = claims_rdb(bench, finished, 5)
        figures["claim_ms_by_finished"]["ours"][finished] = round(median, 2)
        figures["claim_ms_by_finished"]["rdb"][finished] = round(peer, 2)
        _say(
            f"{finished:>6} finished: claim ours {median:.1f} ms, rdb {peer:.1f} ms ({peer / median:.1f} x); "
            f"first claim of a cold process: ours {first / 1e3:.2f} s, rdb {peer_first / 1e3:.2f} s"
        )
        if finished == 50_000:
            figures["load_50k_s"] = round(first / 1e3, 3)
    return figures


def main() -> None:
    """Parse, start Postgres, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    numbers: Callable[[str], list[int]] = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--clients", type=numbers, default=[1, 8, 32, 128])
    parser.add_argument("--finished", type=numbers, default=[100, 1000, 10_000, 50_000])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, embedded.running(Path(name)) as postgres:
        database = engine.connect(postgres.url)
        schema.migrate(database)
        postmaster = int((postgres.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        figures = run(arguments, Bench(postgres, postmaster, database), Path(name))
        database.dispose()
    if arguments.json:
        _say(json.dumps(figures))


if __name__ == "__main__":
    main()
