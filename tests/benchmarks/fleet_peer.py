"""The peer of `./run bench fleet`: workers of plain Optuna on its own storage in Postgres, at the same pace.

`python -m tests.benchmarks.fleet_peer '{"url": ..., "study": ..., "workers": 50, "first": 0, "every_s": 10, "reports": 12}'`
says `ready` and is told `go` and `tell` as `fleet_side` is. Each worker is a thread that asks, reports, asks whether to
prune, and tells; the threads of a process share `CONNECTIONS` connections, or a thousand of them would be too many.
"""

import json
import random
import sys
import threading
import time
import warnings
from typing import Any

import optuna

from tests.benchmarks.optuna_peer import SPACE, Times, storage_of, study_of

CONNECTIONS = 4


def main() -> None:
    """Work until stdin ends."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    asked = json.loads(sys.argv[1])
    storage = storage_of("rdb", asked["url"], CONNECTIONS)
    ms: Times = {"claim": [], "report": [], "settle": []}
    refused: list[str] = []
    chance = random.Random(asked["first"])
    for number in range(asked["workers"]):
        study = study_of(storage, asked["study"], "random", asked["first"] + number)
        arguments = (study, asked, chance.random(), ms, refused)
        threading.Thread(target=_live, args=arguments, daemon=True).start()
    _say("ready")
    for line in sys.stdin:
        if line.strip() == "go":
            for those in ms.values():
                those.clear()
            refused.clear()
        else:
            _say(json.dumps({"ms": ms, "refused": refused}))


def _live(study: optuna.Study, asked: Any, share: float, ms: Times, refused: list[str]) -> None:
    time.sleep(share * asked["every_s"])
    while True:
        try:
            _train(study, asked, ms)
        except Exception as error:  # noqa: BLE001 - whatever the storage raises when it is overrun counts as a refusal
            refused.append(f"{type(error).__name__}: {error}"[:200])
            time.sleep(1)


def _train(study: optuna.Study, asked: Any, ms: Times) -> None:
    began = time.perf_counter()
    trial = study.ask(SPACE)
    ms["claim"].append(1e3 * (time.perf_counter() - began))
    due = time.monotonic()
    for step in range(asked["reports"]):
        due += asked["every_s"]
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.perf_counter()
        trial.report(0.5 + step / 100, step)
        trial.should_prune()
        ms["report"].append(1e3 * (time.perf_counter() - began))
    began = time.perf_counter()
    study.tell(trial, 0.6)
    ms["settle"].append(1e3 * (time.perf_counter() - began))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
