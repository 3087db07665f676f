"""Optuna as people run it: workers that call ask, report, should_prune and tell on a storage.

`python -m tests.benchmarks.optuna_peer work KIND URL STUDY CLIENTS SECONDS SAMPLER` prints one JSON object;
`python -m tests.benchmarks.optuna_peer serve URL PORT` is Optuna's own gRPC proxy; both leave at end-of-file on stdin.
"""

import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage

from tests.benchmarks.loads import REPORTS

SPACE: dict[str, optuna.distributions.BaseDistribution] = {
    "learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
    "weight_decay": optuna.distributions.FloatDistribution(1e-6, 1e-1, log=True),
    "warmup_epochs": optuna.distributions.FloatDistribution(1e-2, 1e1, log=True),
}


def storage_of(kind: str, url: str) -> BaseStorage:
    """Open `rdb` at a database URL, or `grpc` at host:port."""
    if kind == "grpc":
        host, port = url.split(":")
        return optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    return optuna.storages.get_storage(optuna.storages.RDBStorage(url))


def sampler_of(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler that the study under test has."""
    if name == "tpe":
        return optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def live(study: optuna.Study, until: float, asks: list[float], counts: list[int]) -> None:
    """Live one trial after another, as `study.optimize` would."""
    while time.monotonic() < until:
        started = time.perf_counter()
        trial = study.ask(SPACE)
        asks.append(1e3 * (time.perf_counter() - started))
        for step in range(REPORTS):
            trial.report(0.5 + step / 100, step)
            trial.should_prune()
        study.tell(trial, 0.6)
        counts.append(1)


def work(
    kind: str, url: str, name: str, clients: int, seconds: float, sampler: str
) -> dict[str, Any]:
    """Let so many threads live trials; a study object each, as processes would have."""
    storage = storage_of(kind, url)
    studies = [
        optuna.load_study(
            study_name=name,
            storage=storage,
            sampler=sampler_of(sampler, seed),
            pruner=optuna.pruners.NopPruner(),
        )
        for seed in range(clients)
    ]
    asks: list[float] = []
    counts: list[int] = []
    cpu, started = time.process_time(), time.monotonic()
    threads = [
        threading.Thread(target=live, args=(study, started + seconds, asks, counts))
        for study in studies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "trials": len(counts),
        "seconds": time.monotonic() - started,
        "cpu_s": time.process_time() - cpu,
        "asks": asks,
    }


def serve(url: str, port: int) -> None:
    """Run Optuna's gRPC storage proxy on the database."""
    storage = optuna.storages.get_storage(optuna.storages.RDBStorage(url))
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    optuna.storages.run_grpc_proxy_server(storage, host="127.0.0.1", port=port)


def main(argv: Sequence[str]) -> None:
    """Dispatch the two verbs."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if argv[0] == "serve":
        serve(argv[1], int(argv[2]))
        return
    kind, url, name, clients, seconds, sampler = argv[1:]
    print(json.dumps(work(kind, url, name, int(clients), float(seconds), sampler)))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
