"""Freeze-thaw decides as another implementation of the same rules did, where both draw the same configurations."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.domain.facts import TrialFacts
from service.sampling.model.arrays import Floats
from service.sampling.model.cube import Cube
from service.sampling.model.curves import decision_epochs
from service.sampling.scheduling import comparison, guard
from service.sampling.scheduling.board import Board
from service.sampling.scheduling.forecast import Forecast
from service.sampling.scheduling.freeze_thaw import FreezeThaw
from service.sampling.scheduling.scheduler import Asked, Begin, Choice, GoOn
from service.sampling.scheduling.tpe_beside import TpeBeside
from tests.unit.sampling.scheduling.studies import facts
from trimtab.contract.search_space import (
    Choices,
    FloatRange,
    IntRange,
    Scalar,
    Space,
)

REFERENCE: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("decisions.json").read_text()
)
"""Studies on one worker: all trials with their whole curves, and each decision in turn.

A decision is the trial that reported (null: a claim), the trial that goes on or begins, whether it begins, the number of
epochs that it runs until (null: its end), and which set of configurations was looked at. The second study's curves tell
nothing of their ends for three quarters of their course.
"""
SPACE: Space = {
    "x00": FloatRange(kind="float", low=0, high=1),
    "x01": FloatRange(kind="float", low=0, high=1),
    "x02": IntRange(kind="int", low=0, high=4),
    "x03": Choices(kind="choices", choices=("c000", "c001", "c002")),
}
EPOCHS = 20


class Recorded(TpeBeside):
    """What TPE proposed when the reference was recorded."""

    def __init__(self, trials: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(SPACE, "maximize")
        self._recorded = trials

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        pass

    def propose(
        self, number: int, in_flight: Sequence[Mapping[str, Scalar]], seed: int
    ) -> Mapping[str, Scalar]:
        return self._recorded[number]["values"]


class Study:
    """One recorded study, as a scheduler hears of it."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._trials = known["trials"]
        board = Board(Cube(SPACE), decision_epochs(EPOCHS), "maximize")
        by_tpe = Recorded(self._trials)
        self.scheduler = FreezeThaw(board, Forecast(board), first=8, wanted=1, by_tpe=by_tpe)
        self.begun = 0
        self._epochs: dict[int, int] = {}
        self._until: dict[int, int | None] = {}

    def decide(self, last: int | None, seed: int) -> Choice:
        return self.scheduler.decide(Asked(last, True, self.begun, (), seed))

    def begin(self, number: int) -> Mapping[str, Scalar]:
        """Return what the next trial was."""
        self.begun += 1
        return self._trials[number]["values"]

    def pause(self, number: int) -> None:
        self._learn(number, "paused")

    def train(self, number: int, until: int | None) -> None:
        """Train a trial until it is decided on, and tell so."""
        done, self._until[number] = self._epochs.get(number, 0), until
        later = (epochs for epochs in decision_epochs(EPOCHS) if epochs > done)
        self._learn(number, "running")
        self._epochs[number] = next(later) if until is None else until
        self._learn(number, "running")

    def _learn(self, number: int, state: str) -> None:
        trial, epochs = self._trials[number], self._epochs.get(number, 0)
        curve = trial["curve"][:epochs]
        until = self._until[number]
        self.scheduler.learn([facts(number, trial["values"], curve, state, runs_until=until)])


@pytest.mark.parametrize("known", REFERENCE, ids=["smooth", "blind", "another"])
def test_each_decision_is_the_references(
    known: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    drawn: list[int] = []

    def draw(cube: Cube, *_: object) -> Floats:
        rng = random.Random(len(drawn))
        drawn.append(1)
        return cube.snapped(np.array([[rng.random() for _ in range(4)] for _ in range(40)]))

    monkeypatch.setattr(comparison, "candidates", draw)
    # What we do otherwise on purpose.
    monkeypatch.setattr(comparison, "RESTART_EPOCHS", 0.0)
    monkeypatch.setattr(guard, "DOUBT", 0.0)
    study = Study(known)
    for step, (last, number, begins, until, _) in enumerate(known["decisions"]):
        match study.decide(last, step):
            case Begin(runs_until=found, values=values):
                assert (begins, until) == (1, found)
                assert values in (None, study.begin(number))
            case GoOn(number=chosen, runs_until=found):
                assert (begins, number, until) == (0, chosen, found)
            case other:
                pytest.fail(f"{other} at step {step}")
        if last not in (None, number):
            study.pause(last)
        study.train(number, until)
    assert len(drawn) > 30
