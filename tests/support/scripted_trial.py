"""A trial that trains nothing: it speaks over the real pipe and writes real checkpoints, and what happens in it is played."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from tests.support.records import a_record
from trimtab.contract.leases import Completed, Failed, Outcome, Pruned, Report, Verdict
from worker import atomic_files, checkpoints
from worker.pipe_messages import (
    OPENING,
    Began,
    Ended,
    EpochDone,
    RunTrial,
    SavedState,
    StoredFile,
)
from worker.runner.agent_channel import AgentChannel


class ScriptedTrial(ABC):
    """One attempt at a lease. Its subclasses say what happens in it.

    Args:
        line: To the agent.
        order: The order to run a trial.
        may_group: Whether the agent is told that other trials may join.
    """

    def __init__(self, line: AgentChannel, order: RunTrial, *, may_group: bool) -> None:
        self.line = line
        self.order = order
        self.lease = order.lease
        self._may_group = may_group
        self._newest: SavedState | None = order.resume[0] if order.resume else None
        self._best: SavedState | None = None
        self._best_value = 0.0

    @abstractmethod
    def play(self, step: int) -> Ended | None:
        """Do what happens at this step; an end comes instead of its epoch."""

    @abstractmethod
    def report(self, step: int) -> tuple[float, Report]:
        """Return the value that this epoch came to, and what is told of it."""

    def run(self) -> None:
        """Run to the end, and tell it."""
        self.line.say(self._evaluate() if self.lease.kind == "final" else self._train())

    def leave(self, verdict: Verdict) -> Ended:
        """End as a verdict that is not to go on says."""
        match verdict:
            case "stop":
                return self.ended(Pruned())
            case "finish" if self._newest is not None:
                return self.ended(Completed(value=self._best_value))
            case "finish" | "cancel":
                return self.ended(Failed(error="cancelled"))
            case _:
                return self.ended(None)

    def ended(self, outcome: Outcome | None) -> Ended:
        """End so; None is a trial that is put aside."""
        return Ended(
            lease_id=self.lease.lease_id,
            outcome=outcome,
            newest=self._newest,
            best=self._best,
        )

    def _train(self) -> Ended:
        self._begin(may_group=self._may_group)
        for step in range(self._first_step(), self.lease.recipe.epochs):
            ended = self.play(step) or self._epoch(step)
            if ended is not None:
                return ended
        return self.ended(Completed(value=self._best_value))

    def _begin(self, *, may_group: bool) -> None:
        lease_id, record = self.lease.lease_id, a_record()
        self.line.say(Began(lease_id=lease_id, record=record, may_group=may_group))

    def _first_step(self) -> int:
        if self._newest is None:
            return 0
        state = json.loads(self._newest.path.read_text())
        self._best_value = state["best_value"]
        return state["step"] + 1

    def _epoch(self, step: int) -> Ended | None:
        value, report = self.report(step)
        self._save(step, value)
        self.line.say(
            EpochDone(
                lease_id=self.lease.lease_id,
                report=report,
                newest=self._newest,
                best=self._best,
            )
        )
        verdict = self.line.verdict(self.lease.lease_id, step)
        return None if verdict == "continue" else self.leave(verdict)

    def _save(self, step: int, value: float) -> None:
        is_best = value > self._best_value
        self._best_value = max(self._best_value, value)
        # With the attempt, so that states of two attempts are never the same file.
        state = {"step": step, "best_value": self._best_value, "fence": self.lease.fence}
        best = None if is_best else self._best
        fill = _writes(json.dumps(state))
        self._newest = checkpoints.save(self.order.folder, step, fill, best=best)
        self._best = self._newest if is_best else self._best

    def _evaluate(self) -> Ended:
        self._begin(may_group=False)
        verdict = self.line.verdict(self.lease.lease_id, OPENING)
        if verdict != "continue":
            return self.leave(verdict)
        if self._newest is None:
            return self.ended(
                Failed(error="checkpoint_corrupt", message="no state to evaluate")
            )
        model = self.order.folder / "model.safetensors"
        atomic_files.write(model, self._newest.path.read_bytes())
        stored = StoredFile(
            path=model, sha256=atomic_files.sha256_of(model), bytes=model.stat().st_size
        )
        outcome = Completed(
            value=0.95, metrics={"test_accuracy": 0.95}, model_sha256=stored.sha256
        )
        return Ended(lease_id=self.lease.lease_id, outcome=outcome, models=(stored,))


def _writes(text: str) -> Callable[[Path], None]:
    def fill(path: Path) -> None:
        path.write_text(text)

    return fill
