"""The ways to run many trials at once, each measured alike: ours, and three that people use today.

| way | service | clients |
|---|---|---|
| ours | the service's processes | workers that send and read HTTP, all in one light process |
| before | the same, of another checkout of this project (`--before`) | the same as of ours |
| rdb | none: each client works on Postgres itself, so its CPU is the service's, with Optuna's sampler in it | Optuna |
| grpc | Optuna's gRPC storage proxy | Optuna, its sampler and the copies of all trials in it |
| vizier | OSS Vizier's gRPC server with SQLite in it; no Postgres | Vizier's own client |

Each measurement has fresh processes, warm before the clock starts (ours by a second of load, each process of the others by
a trial), and a fresh study of `FINISHED` finished trials with a curve each. A trial is a claim, `REPORTS`
reports and an outcome. Ours and Optuna's ask the median pruner for a verdict after each report, and train on whatever it
says; Vizier is spared that.
Vizier searches at random in every measurement: its default, a Gaussian process, needs longer for one suggestion
than a measurement takes (`--vizier-default` shows it).
"""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

from service.storage import studies
from tests.benchmarks import loads
from tests.benchmarks.filling import fill
from tests.benchmarks.machine import Bench, cpu_s, family_cpu_s, free_port, listening
from tests.benchmarks.samples import Sample, Sampler, Way
from trimtab.client import Client
from trimtab.contract.studies import StudyDocument

FINISHED = 1000
MANY = 1_000_000
PEER_PROCESSES = 4
PATIENCE_S = 60.0
"""How long trials that have begun are waited for; what is unfinished then is not counted."""
RANGES = {
    "learning_rate": (1e-5, 1e-1),
    "weight_decay": (1e-6, 1e-1),
    "warmup_epochs": (1e-2, 1e1),
}


def written(name: str, sampler: Sampler, **more: Any) -> dict[str, Any]:
    """A study document as a person writes it, with three log ranges, as in the peers' space."""
    ranges = {
        key: {"kind": "float", "low": low, "high": high, "log": True}
        for key, (low, high) in RANGES.items()
    }
    return {
        "name": name,
        "task": {
            "kind": "classification",
            "dataset": {"kind": "builtin", "name": "digits"},
        },
        "model": {"backbone": "glyphnet"},
        "space": ranges,
        # It judges from the first epoch on, as Optuna's does; in a form that older builds read too.
        "search": {"sampler": sampler, "pruner": "median", "warmup_epochs": 0},
        "budget": {"trials": MANY},
    } | more


def document(name: str, sampler: Sampler, **more: Any) -> StudyDocument:
    """The same, parsed."""
    return StudyDocument.model_validate(written(name, sampler, **more))


@contextmanager
def service(bench: Bench, url: str | None = None) -> Generator[tuple[Client, int, str]]:
    """Run a fresh service: client, pid, address.

    Args:
        bench: the parts under test, and the interpreter of the service.
        url: leads to that Postgres; None: directly.
    """
    environment = {**os.environ, "TRIMTAB_DATABASE_URL": url or bench.url}
    argv = [bench.python, "-P", "-m", "service", "--port", "0"]
    with subprocess.Popen(
        [*argv, "--data-dir", str(bench.folder / "service")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            address: str = json.loads(process.stdout.readline())["url"]
            with Client(address) as client:
                while not client.is_ready():
                    time.sleep(0.05)
                yield client, process.pid, address
        finally:
            process.terminate()


@contextmanager
def our_study(
    bench: Bench, client: Client, address: str, sampler: Sampler, finished: int
) -> Generator[str]:
    """A study of ours with finished trials; cancelled in the end, so that no later claim meets it."""
    name = f"ours-{uuid4().hex[:12]}"
    # As it is written: our client sends what this checkout makes of it, which another one may not know.
    httpx2.post(f"{address}/v1/studies", json=written(name, sampler)).raise_for_status()
    fill(bench.database, name, document(name, sampler), finished)
    yield name
    client.cancel(name)


def optuna_study(bench: Bench, finished: int) -> str:
    """A study for Optuna alone: made by ours, whose rows Optuna reads, and never served."""
    name = f"peer-{uuid4().hex[:12]}"
    with bench.database.transaction() as connection:
        row = studies.insert(connection, document(name, "tpe"))
        studies.set_state(connection, row.study_id, "cancelled", "study_cancelled")
    fill(bench.database, name, document(name, "tpe"), finished)
    return name


@contextmanager
def optuna_storage(kind: Way, url: str) -> Generator[tuple[str, int | None]]:
    """Where Optuna's workers go: the database itself, or a fresh gRPC proxy (with its pid) on it."""
    if kind == "rdb":
        yield url, None
        return
    port = free_port()
    argv = [sys.executable, "-m", "tests.benchmarks.optuna_peer", "serve", url, str(port)]
    with listening(argv, port) as pid:
        yield f"127.0.0.1:{port}", pid


def measure_ours(bench: Bench, sampler: Sampler, clients: int, seconds: float) -> Sample:
    """Our service over HTTP, with a second to warm: connections opened, statements planned."""
    with (
        service(bench) as (client, pid, url),
        our_study(bench, client, url, sampler, FINISHED),
    ):
        loads.run(url, clients, 1.0)
        before = family_cpu_s(pid), bench.postgres_cpu_s(), time.process_time()
        started = time.monotonic()
        timings = loads.run(url, clients, seconds)
        elapsed = time.monotonic() - started
        after = family_cpu_s(pid), bench.postgres_cpu_s(), time.process_time()
    service_ms, postgres_ms, client_ms = (
        1e3 * (b - a) / timings.trials for a, b in zip(before, after, strict=True)
    )
    rate = timings.trials / elapsed
    return Sample(timings.trials, 0, rate, service_ms, postgres_ms, client_ms, timings.ms)


def measure_optuna(
    bench: Bench, way: Way, sampler: Sampler, clients: int, seconds: float
) -> Sample:
    """Optuna's workers, four processes of threads, on RDBStorage or through a gRPC proxy on it."""
    name = optuna_study(bench, FINISHED)
    with optuna_storage(way, bench.url) as (url, proxy):
        argv = [sys.executable, "-m", "tests.benchmarks.optuna_peer", "work", way, url, name]
        argvs = [
            [*argv, str(share), str(seconds), str(PATIENCE_S), sampler]
            for share in _shares(clients)
        ]
        return _measured(argvs, proxy, bench)


def measure_vizier(bench: Bench, python: Path, clients: int, seconds: float) -> Sample:
    """OSS Vizier's server on a fresh SQLite file, random search, and its clients in one process, which is enough for them."""
    lengths = [str(seconds), str(PATIENCE_S), str(loads.REPORTS), "warm"]
    return _vizier(bench, python, "RANDOM_SEARCH", clients, lengths)


def measure_vizier_default(bench: Bench, python: Path, patience_s: float) -> Sample:
    """One client and one trial of its default algorithm, compiled by its first suggestion, or as much as patience sees."""
    lengths = ["0.001", str(patience_s), str(loads.REPORTS), "cold"]
    return _vizier(bench, python, "DEFAULT", 1, lengths)


def _vizier(
    bench: Bench, python: Path, algorithm: str, clients: int, lengths: Sequence[str]
) -> Sample:
    peer = [str(python), str(Path(__file__).with_name("vizier_peer.py"))]
    file, port = bench.folder / f"vizier-{uuid4().hex[:12]}.db", free_port()
    serve = [*peer, "serve", str(file), str(port), algorithm, str(FINISHED), str(loads.REPORTS)]
    with listening(serve, port) as server:
        work = [*peer, "work", f"127.0.0.1:{port}", str(clients), *lengths]
        return _measured([work], server, None)


def _shares(clients: int) -> list[int]:
    """Spread so many clients over the processes."""
    processes = min(clients, PEER_PROCESSES)
    return [clients // processes + (n < clients % processes) for n in range(processes)]


def _measured(
    argvs: Sequence[Sequence[str]], server: int | None, bench: Bench | None
) -> Sample:
    """Run clients that print what they did, and read the CPU of the others around them."""

    def read() -> tuple[float, float]:
        return (
            0.0 if server is None else cpu_s(server),
            0.0 if bench is None else bench.postgres_cpu_s(),
        )

    running = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for argv in argvs
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # imported, connected
    before = read()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results: list[dict[str, Any]] = [json.loads(each.communicate()[0]) for each in running]
    return _sum(results, *(b - a for a, b in zip(before, read(), strict=True)))


def _sum(results: Sequence[Mapping[str, Any]], service_s: float, postgres_s: float) -> Sample:
    trials = sum(result["trials"] for result in results)
    client_s = sum(result["cpu_s"] for result in results)
    times: defaultdict[str, list[float]] = defaultdict(list)
    for result in results:
        for verb, found in result["ms"].items():
            times[verb].extend(found)
    each = 1e3 / trials if trials else float("nan")
    return Sample(
        trials,
        sum(result["unfinished"] for result in results),
        trials / max(result["seconds"] for result in results),
        service_s * each,
        postgres_s * each,
        client_s * each,
        times,
    )
