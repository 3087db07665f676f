"""Optuna as people run it: workers that call ask, report, should_prune and tell on a storage.

`python -m tests.benchmarks.optuna_peer work KIND URL STUDY CLIENTS SECONDS PATIENCE SAMPLER` lives trials once a line
comes on stdin; `... claim URL STUDY COUNT` asks in a cold process; both print one JSON object.
`... serve URL PORT` is Optuna's own gRPC proxy; it leaves at end-of-file on stdin.
"""

import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage

from tests.benchmarks.loads import REPORTS

SPACE: dict[str, optuna.distributions.BaseDistribution] = {
    "learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
    "weight_decay": optuna.distributions.FloatDistribution(1e-6, 1e-1, log=True),
    "warmup_epochs": optuna.distributions.FloatDistribution(1e-2, 1e1, log=True),
}
Times = dict[str, list[float]]


def storage_of(kind: str, url: str, connections: int = 5) -> BaseStorage:
    """Open `rdb` at a database URL, or `grpc` at host:port."""
    if kind == "grpc":
        host, port = url.split(":")
        return optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    pool = {"pool_size": connections}
    return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=pool))


def sampler_of(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler that the study under test has."""
    if name == "tpe":
        return optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def study_of(storage: BaseStorage, name: str, sampler: str, seed: int) -> optuna.Study:
    """A study object as each process would have it, with the median pruner as ours has it by default."""
    return optuna.load_study(
        study_name=name,
        storage=storage,
        sampler=sampler_of(sampler, seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0),
    )


def live_one(study: optuna.Study, timed: Callable[[str, Callable[[], Any]], Any]) -> None:
    """Live one trial, as `study.optimize` would; `timed` runs each verb's call."""
    trial: optuna.Trial = timed("claim", lambda: study.ask(SPACE))

    def report(step: int) -> None:
        trial.report(0.5 + step / 100, step)
        trial.should_prune()

    for step in range(REPORTS):
        timed("report", lambda step=step: report(step))
    timed("settle", lambda: study.tell(trial, 0.6))


def live(study: optuna.Study, until: float, ms: Times, trials: list[float]) -> None:
    """Live one trial after another."""

    def timed(verb: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        answer = call()
        ms[verb].append(1e3 * (time.perf_counter() - started))
        return answer

    while time.monotonic() < until:
        live_one(study, timed)
        trials.append(time.monotonic())


def work(
    kind: str, url: str, name: str, clients: int, seconds: float, patience: float, sampler: str
) -> dict[str, Any]:
    """Let so many threads live trials; those begun are waited for, as long as patience lasts."""
    storage = storage_of(kind, url, clients)
    studies = [study_of(storage, name, sampler, seed) for seed in range(clients)]
    ms: Times = {"claim": [], "report": [], "settle": []}
    trials: list[float] = []
    live_one(studies[0], lambda _verb, call: call())  # warm: the process knows the study
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    cpu, started = time.process_time(), time.monotonic()
    threads = [
        threading.Thread(target=live, args=(study, started + seconds, ms, trials), daemon=True)
        for study in studies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, started + seconds + patience - time.monotonic()))
    return {
        "trials": len(trials),
        "unfinished": sum(thread.is_alive() for thread in threads),
        "seconds": time.monotonic() - started,
        "cpu_s": time.process_time() - cpu,
        "ms": ms,
    }


def claim(url: str, name: str, count: int) -> dict[str, Any]:
    """Ask and tell: the first ask of a process loads the study, the next ones do not."""
    study = study_of(storage_of("rdb", url), name, "tpe", 0)
    times: list[float] = []
    for _ in range(count):
        started = time.perf_counter()
        trial = study.ask(SPACE)
        times.append(1e3 * (time.perf_counter() - started))
        study.tell(trial, 0.5)
    return {"first": times[0], "next": times[1:]}


def serve(url: str, port: int) -> None:
    """Run Optuna's gRPC storage proxy on the database."""
    storage = optuna.storages.get_storage(optuna.storages.RDBStorage(url))
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    optuna.storages.run_grpc_proxy_server(storage, host="127.0.0.1", port=port)


def main(argv: Sequence[str]) -> None:
    """Dispatch the verbs."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    match argv:
        case ["serve", url, port]:
            serve(url, int(port))
        case ["claim", url, name, count]:
            print(json.dumps(claim(url, name, int(count))), flush=True)  # noqa: T201
        case ["work", kind, url, name, clients, seconds, patience, sampler]:
            lengths = int(clients), float(seconds), float(patience)
            print(json.dumps(work(kind, url, name, *lengths, sampler)), flush=True)  # noqa: T201
            os._exit(0)  # past threads that were not waited for
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
