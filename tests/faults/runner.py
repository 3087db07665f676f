"""A runner that trains nothing, quickly: real checkpoints over the real pipe, and now and then a mishap.

It takes company; each trial runs in a thread of its own. Each value tells the attempt that it came from, so that the checker can tell a zombie's words from its successor's.
"""

import argparse
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.records import a_record
from trimtab import lifeline
from trimtab.contract.leases import Completed, Failed, Lease, Outcome, Pruned, Report
from worker import atomic_files, checkpoints
from worker.pipe_messages import (
    Began,
    Ended,
    EpochDone,
    Ready,
    RunTrial,
    SavedState,
    StoredFile,
)
from worker.runner.agent_channel import AgentChannel

EPOCH_S = (0.03, 0.12)
AFTER_ANOTHER = 4.0
"""So many times as long are the epochs of whoever takes a trial over, so that words of its predecessors find it at work."""
LONG_EPOCH_S = 1.5
LONG = 0.05
"""The share of epochs that are so long that only heartbeats keep the lease."""
SPOILING = 0.05
"""The share of mishaps in company that end it: after them a worker takes none until it is restarted."""


def value_of(lease: Lease, step: int) -> float:
    """Between 0.3 and 0.95, and other for each attempt."""
    base = random.Random(f"{lease.study}/{lease.trial_number}").uniform(0.3, 0.8)
    return round(base + 0.02 * min(step, 5) + 1e-6 * lease.fence, 9)


class Trial:
    """One lease's go."""

    def __init__(self, line: AgentChannel, order: RunTrial) -> None:
        self.line = line
        self.order = order
        self.lease = order.lease
        self.chance = random.Random(
            f"{order.lease.study}/{order.lease.trial_number}/{order.lease.fence}"
        )
        self.newest: SavedState | None = order.resume[0] if order.resume else None
        self.best: SavedState | None = None
        self.best_value = 0.0

    def run(self) -> Ended:
        if self.lease.kind == "final":
            return self.evaluate()
        self.line.say(Began(lease_id=self.lease.lease_id, record=a_record(), may_group=True))
        first = 0
        if self.newest is not None:
            state = json.loads(self.newest.path.read_text())
            first, self.best_value = state["step"] + 1, state["best_value"]
        mishap_at = self.chance.randrange(first, first + 12)
        for step in range(first, self.lease.recipe.epochs):
            long = self.chance.random() < LONG
            epoch_s = self.chance.uniform(*EPOCH_S) * (
                AFTER_ANOTHER if self.lease.fence > 1 else 1
            )
            time.sleep(LONG_EPOCH_S if long else epoch_s)
            ended = self.mishap() if step == mishap_at else self.epoch(step)
            if ended is not None:
                return ended
        return self.ended(Completed(value=self.best_value))

    def mishap(self) -> Ended | None:
        kinds = ("crash", "exit", "oom", "diverge")
        spoils = is_alone() or self.chance.random() < SPOILING
        match self.chance.choice(kinds if spoils else kinds[2:]):
            case "crash":
                return self.ended(Failed(error="crashed", message="by chance", retryable=True))
            case "exit":
                os._exit(7)
            case "oom":
                return self.ended(Failed(error="oom", message="by chance"))
            case _:
                return self.ended(Failed(error="diverged", message="by chance"))

    def epoch(self, step: int) -> Ended | None:
        value = value_of(self.lease, step)
        is_best = value > self.best_value
        self.best_value = max(self.best_value, value)
        state = json.dumps(
            {"step": step, "best_value": self.best_value, "fence": self.lease.fence}
        )
        best = None if is_best else self.best
        self.newest = checkpoints.save(self.order.folder, step, writes(state), best=best)
        self.best = self.newest if is_best else self.best
        told = None if self.chance.random() < 0.03 else value
        report = Report(step=step, value=told)
        self.line.say(
            EpochDone(
                lease_id=self.lease.lease_id, report=report, newest=self.newest, best=self.best
            )
        )
        match self.line.verdict(self.lease.lease_id, step):
            case "continue":
                return None
            case "stop":
                return self.ended(Pruned())
            case "finish" if self.newest is not None:
                return self.ended(Completed(value=self.best_value))
            case "finish" | "cancel":
                return self.ended(Failed(error="cancelled"))
            case _:
                return self.ended(None)

    def evaluate(self) -> Ended:
        if not self.order.resume:
            return self.ended(
                Failed(error="checkpoint_corrupt", message="no state to evaluate")
            )
        model = self.order.folder / "model.safetensors"
        atomic_files.write(model, self.order.resume[0].path.read_bytes())
        stored = StoredFile(
            path=model, sha256=atomic_files.sha256_of(model), bytes=model.stat().st_size
        )
        outcome = Completed(value=0.5, metrics={"test_count": 1.0}, model_sha256=stored.sha256)
        return Ended(lease_id=self.lease.lease_id, outcome=outcome, model=stored)

    def ended(self, outcome: Outcome | None) -> Ended:
        return Ended(
            lease_id=self.lease.lease_id, outcome=outcome, newest=self.newest, best=self.best
        )


def is_alone() -> bool:
    """Whether the trial that asks has no company."""
    return sum(thread.name == "trial" for thread in threading.enumerate()) == 1


def writes(text: str) -> Callable[[Path], None]:
    def fill(path: Path) -> None:
        path.write_text(text)

    return fill


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--news", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    lifeline.watch(arguments.lifeline, lambda: os._exit(0))
    line = AgentChannel(arguments.orders, arguments.news)
    line.say(Ready(device="scripted"))
    for order in line.trials():
        threading.Thread(target=run, args=(line, order), name="trial", daemon=True).start()


def run(line: AgentChannel, order: RunTrial) -> None:
    line.say(Trial(line, order).run())


if __name__ == "__main__":
    main()
