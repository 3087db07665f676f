"""A runner that trains nothing: it speaks the real pipe, writes real checkpoints, and fails on cue.

TRIMTAB_SCRIPT holds cues, `what@step` parted by blanks: `hang` (for ever, deaf), `hold` (until told otherwise),
`exit`, `abort`, `kill`, `garble`, `shout` (on stdout), `crash`, `oom`, `nan`; `hold-then-exit` and the like when told
otherwise; `what@step/number` for one trial alone. A cue plays only where no checkpoint was resumed, so that a second
attempt gets through. With the word `company` it takes company. Each trial runs in a thread of its own.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from tests.support.records import a_record
from trimtab import lifeline
from trimtab.contract.leases import Completed, Failed, Pruned, Report, Verdict
from worker import atomic_files, checkpoints
from worker.pipe_messages import (
    OPENING,
    Began,
    Ended,
    EpochDone,
    Ready,
    RunTrial,
    SavedState,
    Sender,
    Steer,
    StoredFile,
    read_orders,
)


def value_at(step: int) -> float:
    """Rise, and fall again: the best epoch is the fourth."""
    return (0.5, 0.6, 0.7, 0.9, 0.8)[min(step, 4)]


@dataclass(frozen=True)
class Script:
    """What TRIMTAB_SCRIPT says."""

    may_group: bool = False
    cues: dict[tuple[int, int | None], str] = field(
        default_factory=dict[tuple[int, int | None], str]
    )
    """By step, and trial number where it is for one alone."""

    @classmethod
    def read(cls, text: str) -> "Script":
        words = text.split()
        cues: dict[tuple[int, int | None], str] = {}
        for what, when in (word.split("@") for word in words if "@" in word):
            step, _, number = when.partition("/")
            cues[int(step), int(number) if number else None] = what
        return cls("company" in words, cues)


class Words:
    """What the agent says of one trial."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._answers: dict[int, Verdict] = {}
        self._between: Verdict = "continue"

    def hear(self, steer: Steer) -> None:
        with self._changed:
            if steer.step is None:
                self._between = steer.verdict
            else:
                self._answers[steer.step] = steer.verdict
            self._changed.notify_all()

    def on_epoch(self, step: int) -> Verdict:
        with self._changed:
            self._changed.wait_for(lambda: step in self._answers)
            return self._answers.pop(step)

    def in_between(self) -> Verdict:
        """Wait for another word than to go on."""
        with self._changed:
            self._changed.wait_for(lambda: self._between != "continue")
            return self._between


class Scripted:
    def __init__(self, sender: Sender, order: RunTrial, script: Script) -> None:
        self.sender = sender
        self.words = Words()
        self.order = order
        self.lease = order.lease
        self.script = script
        self.newest: SavedState | None = order.resume[0] if order.resume else None
        self.best: SavedState | None = None
        self.best_value = 0.0

    def run(self) -> None:
        self.sender.send(self.train())

    def train(self) -> Ended:
        self.sender.send(
            Began(
                lease_id=self.lease.lease_id,
                record=a_record(),
                may_group=self.script.may_group,
            )
        )
        if self.lease.kind == "final":
            verdict = self.words.on_epoch(OPENING)
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
        self.sender.send(
            EpochDone(
                lease_id=self.lease.lease_id, report=report, newest=self.newest, best=self.best
            )
        )
        match self.words.on_epoch(step):
            case "continue":
                return None
            case verdict:
                return self.leave(verdict)

    def leave(self, verdict: Verdict) -> Ended:
        match verdict:
            case "stop":
                return self.ended(Pruned())
            case "finish" if self.newest is not None:
                return self.ended(Completed(value=self.best_value))
            case "finish" | "cancel":
                return self.ended(Failed(error="cancelled"))
            case _:
                return self.ended(None)

    def play(self, step: int) -> Ended | None:
        cues = {} if self.order.resume else self.script.cues
        cue = cues.get((step, None)) or cues.get((step, self.lease.trial_number))
        if cue is not None and cue.startswith("hold"):
            word = self.words.in_between()
            cue = cue.removeprefix("hold-then-")
            if cue == "hold":
                return self.leave(word)
        match cue:
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
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
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
        atomic_files.write(model, self.order.resume[0].path.read_bytes())
        stored = StoredFile(
            path=model, sha256=atomic_files.sha256_of(model), bytes=model.stat().st_size
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
    script = Script.read(os.environ.get("TRIMTAB_SCRIPT", ""))
    NEWS.append(arguments.news)
    sender = Sender(arguments.news)
    sender.send(Ready(device="scripted"))
    trials: dict[UUID, Scripted] = {}
    for order in read_orders(arguments.orders):
        if isinstance(order, RunTrial):
            trial = trials[order.lease.lease_id] = Scripted(sender, order, script)
            threading.Thread(target=trial.run, daemon=True).start()
        else:
            trials[order.lease_id].words.hear(order)


if __name__ == "__main__":
    main()
