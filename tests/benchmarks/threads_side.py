"""One side of `./run bench threads` and `worker-before`: trials in the training process of a checkout, started as its worker does.

Trials of glyphnet on the digits, or of the `task`, `model` and `recipe` that it is asked for. It runs by itself, with the packages of the checkout that stands in PYTHONPATH, and imports nothing of the benchmarks,
which an earlier checkout does not have: `python -P threads_side.py '{"epochs": 10, ...}'`.
"""

import json
import sys
import time
import uuid
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from trimtab.contract.leases import Lease
from worker import checkpoints
from worker.agent import runner_process
from worker.agent.runner_process import RunnerProcess
from worker.pipe_messages import Ended, EpochDone, Ready, RunTrial, Steer

DIGITS = {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}}


def main() -> None:
    """Train one trial for each line that comes in; print the seconds of each on a line of its own."""
    asked = json.loads(sys.argv[1])
    news: SimpleQueue[Any] = SimpleQueue()
    cache = Path(asked["cache_dir"])
    arguments = ("--device", "cpu", "--cache-dir", str(cache), *asked["arguments"])
    runner = RunnerProcess(runner_process.command("worker.runner", arguments), news.put)
    while not isinstance(news.get().news, Ready):
        pass
    for number, _ in enumerate(sys.stdin):
        sys.stdout.write(f"{_train(runner, news, cache, asked, number)}\n")
        sys.stdout.flush()
    runner.close()


def _train(
    runner: RunnerProcess, news: "SimpleQueue[Any]", cache: Path, asked: Any, number: int
) -> float:
    lease = _lease(asked, number)
    folder = checkpoints.folder_of(cache / "checkpoints", lease)
    began = time.perf_counter()
    runner.send(RunTrial(lease=lease, folder=folder))
    while not isinstance(said := news.get().news, Ended):
        if isinstance(said, EpochDone):
            step = said.report.step
            runner.send(Steer(lease_id=lease.lease_id, verdict="continue", step=step))
    if said.outcome is None or said.outcome.kind != "completed":
        raise RuntimeError(f"the trial ended with {said.outcome}")
    return time.perf_counter() - began


def _lease(asked: Any, number: int) -> Lease:
    return Lease.model_validate(
        {
            "lease_id": str(uuid.uuid4()),
            "kind": "trial",
            "study": "threads",
            "trial_number": number,
            "fence": 1,
            "ttl_s": 60.0,
            "seed": number,
            "task": asked.get("task", DIGITS),
            "model": asked.get("model", {"backbone": "glyphnet", "weights": "default"}),
            "hyperparameters": {},
            "recipe": {
                "epochs": asked["epochs"],
                "batch_size": 32,
                "learning_rate": 1e-3 * (1 + number / 10),
                "frozen_stages": asked["frozen_stages"],
                **asked.get("recipe", {}),
            },
        }
    )


if __name__ == "__main__":
    main()
