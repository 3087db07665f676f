"""A runner that trains nothing: it speaks the real pipe, writes real checkpoints, and fails on cue.

TRIMTAB_SCRIPT holds cues, `what@step` parted by blanks: `hang` (for ever, deaf), `hold` (until told otherwise),
`exit`, `abort`, `garble`, `shout` (on stdout), `crash`, `oom`, `nan`. A cue plays only where no checkpoint was
resumed, so that a second attempt gets through.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.records import a_record
from trimtab import lifeline
from trimtab.contract.leases import Completed, Failed, Pruned, Report
from worker import checkpoints, durable
from worker.agent_line import AgentLine
from worker.pipe_messages import (
    OPENING,
    Began,
    Ended,
    EpochDone,
    Ready,
    RunTrial,
    SavedState,
    StoredFile,
)


def value_at(step: int) -> float:
    """Rise, and fall again: the best epoch is the fourth."""
    return (0.5, 0.6, 0.7, 0.9, 0.8)[min(step, 4)]


class Scripted:
    def __init__(self, line: AgentLine, order: RunTrial, cues: dict[int, str]) -> None:
        self.line = line
        self.order = order
        self.lease = order.lease
        self.cues = {} if order.resume else cues
        self.newest: SavedState | None = order.resume[0] if order.resume else None
        self.best: SavedState | None = None
        self.best_value = 0.0

    def run(self) -> Ended:
        self.line.say(Began(lease_id=self.lease.lease_id, record=a_record()))
        if self.lease.kind == "final":
            verdict = self.line.verdict(self.lease.lease_id, OPENING)
            return self.evaluate() if verdict == "continue" else self.leave(verdict)
        first = 0
        if self.newest is not None:
            state = json.loads(self.newest.path.read_text())
            first, self.best_value = state["step"] + 1, state["best_value"]
        for step in range(first, self.lease.recipe.epochs):
            ended = self.play(step) or self.epoch(step)
            if ended is not None:
                return ended
        return self.ended(Completed(value=self.best_value))

    def epoch(self, step: int) -> Ended | None:
        value = value_at(step)
        is_best = value > self.best_value
        self.best_value = max(self.best_value, value)
        state = json.dumps({"step": step, "best_value": self.best_value})
        self.newest = checkpoints.save(
            self.order.folder, step, writes(state), best=None if is_best else self.best
        )
        if is_best:
            self.best = self.newest
        report = Report(step=step, value=value, metrics={"train_loss": 1 - value})
        self.line.say(
            EpochDone(
                lease_id=self.lease.lease_id, report=report, newest=self.newest, best=self.best
            )
        )
        match self.line.verdict(self.lease.lease_id, step):
            case "continue":
                return None
            case verdict:
                return self.leave(verdict)

    def leave(self, verdict: str) -> Ended:
        match verdict:
            case "stop":
                return self.ended(Pruned())
            case "cancel":
                return self.ended(Failed(error="cancelled"))
            case _:
                return self.ended(None)

    def play(self, step: int) -> Ended | None:
        match self.cues.get(step):
            case "hold":
                while self.line.asked(self.lease.lease_id) == "continue":
                    time.sleep(0.005)
                return self.leave(self.line.asked(self.lease.lease_id))
            case "crash":
                return self.ended(Failed(error="crashed", message="cue", retryable=True))
            case "oom":
                return self.ended(Failed(error="oom", message="cue"))
            case cue:
                self.misbehave(cue)
        return None

    def misbehave(self, cue: str | None) -> None:
        match cue:
            case "hang":
                while True:
                    time.sleep(3600)
            case "exit":
                os._exit(7)
            case "abort":
                os.abort()
            case "garble":
                os.write(NEWS[0], b"no message\n")
                time.sleep(3600)
            case "shout":
                sys.stdout.write('{"kind": "ready"}\n' * 3)
                sys.stdout.flush()
            case _:
                pass

    def evaluate(self) -> Ended:
        assert self.order.resume, "a final lease names the winner's checkpoint"
        model = self.order.folder / "model.safetensors"
        durable.write(model, self.order.resume[0].path.read_bytes())
        stored = StoredFile(
            path=model, sha256=durable.sha256_of(model), bytes=model.stat().st_size
        )
        outcome = Completed(
            value=0.95, metrics={"test_accuracy": 0.95}, model_sha256=stored.sha256
        )
        return Ended(lease_id=self.lease.lease_id, outcome=outcome, model=stored)

    def ended(self, outcome: Completed | Pruned | Failed | None) -> Ended:
        return Ended(
            lease_id=self.lease.lease_id, outcome=outcome, newest=self.newest, best=self.best
        )


NEWS: list[int] = []


def writes(text: str) -> Callable[[Path], None]:
    def fill(path: Path) -> None:
        path.write_text(text)

    return fill


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--news", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    arguments, _ = parser.parse_known_args()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    lifeline.watch(arguments.lifeline, lambda: os._exit(0))
    cues = {
        int(step): what
        for what, step in (
            cue.split("@") for cue in os.environ.get("TRIMTAB_SCRIPT", "").split()
        )
    }
    NEWS.append(arguments.news)
    line = AgentLine(arguments.orders, arguments.news)
    line.say(Ready(device="scripted"))
    for order in line.trials():
        line.say(Scripted(line, order, cues).run())


if __name__ == "__main__":
    main()
