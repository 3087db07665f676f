"""Trainings on two devices: two processes of the CPU, which train one case after the other together."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.support.pictures import tiny_data
from tests.support.text_models import tiny_texts
from tests.support.tiny import CPU, plain_backbone, tiny_backbone
from trimtab import lifeline
from trimtab.contract.datasets import BuiltinDataset
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker import data as data_room
from worker.data import TaskData
from worker.training.device.ranks import Ranks, loopback
from worker.training.errors import Interrupted
from worker.training.loop.epochs import epochs_of
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.loop.following import begin_together, digest, follow
from worker.training.loop.state import FitState
from worker.training.model import backbones, heads
from worker.training.model.backbones import Backbone

RANKS = 2


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        model: `tiny`, `plain`, `glyphnet` or `bert`.
        folder: The folder of BERT's weights and of data sets.
        recipe: The fields of the recipe.
        drops: The share that dropout leaves out.
        resume: The state to go on from.
        state: The path of the state after each epoch, which the number of the epoch ends; of the first rank alone.
        leaves: The batch before which the first rank leaves, counted from 1.
        fails: The rank that fails in its batch of the number `fails_at`, and by what.
        fails_at: Counted from 1.
        by: The message of the error.
        unlike: Whether the second rank begins with other weights.
        room: The number of rows that the device of the rank `short` has memory for; 0: for all.
    """

    model: str = "tiny"
    folder: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict[str, Any])
    drops: float = 0.0
    resume: str | None = None
    state: str | None = None
    leaves: int = 0
    fails: int | None = None
    fails_at: int = 1
    by: str = "the driver is gone"
    room: int = 0
    short: int = 1
    unlike: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a training on one rank.

    Attributes:
        curve: Training loss, validation loss and value of each epoch; of the first rank alone.
        error: The message of the error that ended it; empty: none did.
        kind: The kind of that error, or its class.
        passes: The number of micro-batches that it computed.
        digest: Stands for the weights that it came to.
        drawn: The first random number that each of its micro-batches drew.
    """

    curve: list[list[float]]
    error: str = ""
    kind: str = ""
    passes: int = 0
    digest: int = 0
    drawn: list[float] = field(default_factory=list[float])


def train(case: Case, ranks: Ranks | None = None) -> Outcome:
    """Train a case, on this rank of several or alone."""
    model, data = _made(case)
    _prepare(model, case, 0 if ranks is None else ranks.rank)
    look = _Look(case, 0 if ranks is None else ranks.rank)
    request = TrainingRequest(
        model,
        data,
        Recipe.model_validate(
            {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **case.recipe}
        ),
        seed=3,
        device=CPU,
        resume=None if case.resume is None else FitState.load(Path(case.resume)),
        each_batch=look.leave,
        ranks=ranks,
    )
    curve: list[list[float]] = []
    try:
        training = begin(request)
        look.at(model)
        if training.learner.ranks is not None:
            begin_together(training, training.learner.ranks)
        if ranks is not None and ranks.rank:
            if training.learner.ranks is not None:
                follow(training, ranks)
            return Outcome(curve, passes=look.passes, digest=digest(training), drawn=look.drawn)
        try:
            for epoch in epochs_of(training):
                curve.append([epoch.train_loss, epoch.metrics["loss"], epoch.value])
                if case.state is not None:
                    epoch.state().save(Path(case.state.format(epoch.epoch)))
        except Interrupted:
            assert case.state is not None
            training.state().save(Path(case.state.format("part")))
    except Exception as error:  # noqa: BLE001 - it is what the test looks at
        return Outcome(
            curve, str(error), getattr(error, "kind", type(error).__name__), look.passes
        )
    return Outcome(curve, passes=look.passes, digest=digest(training), drawn=look.drawn)


def _prepare(model: Backbone, case: Case, rank: int) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = case.drops
    if case.unlike and rank:
        for parameter in model.parameters():
            parameter.detach().add_(0.1)


class _Look:
    """Counts what is computed, and leaves or fails where the case says so."""

    def __init__(self, case: Case, rank: int) -> None:
        self._case, self._rank = case, rank
        self.begins = False
        self.passes = self._batches = 0
        self.drawn: list[float] = []

    def at(self, model: Backbone) -> None:
        """Look at a network that is ready for its first epoch."""
        # The head is computed in every step, also where frozen stages are not.
        self.begins = True
        model.head.register_forward_pre_hook(lambda _, given: self._pass(len(given[0])))

    def _pass(self, rows: int) -> None:
        if not torch.is_grad_enabled():
            return
        self.passes += 1
        if self._case.drops:
            self.drawn.append(float(torch.rand(())))
        if self._case.fails == self._rank and self.passes >= self._case.fails_at:
            raise RuntimeError(self._case.by)
        if self._case.room and self._rank == self._case.short and rows > self._case.room:
            raise torch.OutOfMemoryError(f"out of memory: {rows} rows")

    def leave(self) -> None:
        self._batches += self.begins
        if self.begins and self._batches == self._case.leaves and not self._rank:
            raise Interrupted


def _made(case: Case) -> tuple[Backbone, TaskData]:
    recipe = Recipe.model_validate(case.recipe)
    if case.model == "tiny":
        data = tiny_data()
        return tiny_backbone(data, head=heads.of(recipe, data.kind)), data
    if case.model == "plain":
        data = tiny_data()
        return plain_backbone(data, head=heads.of(recipe, data.kind)), data
    if case.model == "glyphnet":
        task = Task(
            kind="classification", dataset=BuiltinDataset(kind="builtin", name="digits")
        )
        data = data_room.load(task, cache_dir=Path(case.folder))
        spec = Model(backbone="glyphnet", weights="none")
    else:
        data = tiny_texts(Path(case.folder))
        spec = Model(backbone="bert", weights=case.folder)
    head = heads.of(recipe, data.kind)
    return backbones.build(spec, classes=data.outputs, seed=1, head=head), data


class TwoRanks:
    """Two processes that wait for cases.

    Args:
        folder: Where they meet.
    """

    def __init__(self, folder: Path) -> None:
        self._children: list[lifeline.Child] = []
        for rank in range(RANKS):
            argv = [sys.executable, "-m", "tests.support.two_ranks", str(rank)]
            environment = {**os.environ, **loopback(), "OMP_NUM_THREADS": "1"}
            self._children.append(
                lifeline.spawn(
                    [*argv, str(folder / "meeting")], env=environment, stdin=-1, stdout=-1
                )
            )

    def train(self, case: Case) -> tuple[Outcome, ...]:
        """Train a case; return what became of it on each rank."""
        for child in self._children:
            assert child.process.stdin is not None
            child.process.stdin.write(json.dumps(case.__dict__) + "\n")
            child.process.stdin.flush()
        return tuple(self._heard(child) for child in self._children)

    def _heard(self, child: lifeline.Child) -> Outcome:
        assert child.process.stdout is not None
        line = child.process.stdout.readline()
        assert line, f"a rank has left with {child.process.wait(60)}"
        return Outcome(**json.loads(line))

    def close(self) -> list[int]:
        """Let them part; return their exit codes."""
        for child in self._children:
            assert child.process.stdin is not None
            child.process.stdin.close()
        codes = [child.process.wait(60) for child in self._children]
        for child in self._children:
            assert child.process.stdout is not None
            child.process.stdout.close()
            child.let_go()
        return codes


def main(say: Callable[[str], object]) -> None:
    """Be one rank, until the pipe of cases ends."""
    rank, meeting, _, fd = sys.argv[1:]
    lifeline.watch(int(fd), lambda: os._exit(0))
    torch.set_num_threads(1)
    ranks = Ranks.join(int(rank), RANKS, Path(meeting), CPU)
    for line in sys.stdin:
        say(json.dumps(train(Case(**json.loads(line)), ranks).__dict__) + "\n")
    ranks.close()


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What libraries print is no outcome.
    main(out.write)
