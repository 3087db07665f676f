"""The trials of one study in arrays that grow, at the epochs at which they are decided on."""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.domain.facts import Curve, TrialFacts
from service.domain.lifecycle import INFEASIBLE
from service.sampling.model.arrays import Floats, Indices
from service.sampling.model.cube import Cube
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import Scalar

Flags = NDArray[np.bool_]
ARRAYS = (
    "numbers",
    "points",
    "features",
    "curves",
    "reached",
    "epochs",
    "best",
    "half",
    "last",
    "standing",
    "committed",
    "is_finite",
    "rooms",
)

AT_FIRST = 64
"""The number of trials that there is room for at first; it doubles."""


class Standing(IntEnum):
    """What a trial is to a decision."""

    RUNNING = 0
    """It runs, waits for a worker, or is paused by a person."""
    PAUSED = 1
    """The search paused it, and may take it up again."""
    DONE = 2
    """It completed."""
    ENDED = 3
    """It was stopped: what its curve says counts, and no epoch of it is to come."""
    INFEASIBLE = 4
    """It failed by its configuration's fault, or violates a constraint."""
    GONE = 5
    """It says nothing about its configuration."""


class _Seen(NamedTuple):
    """A curve as it is kept: the best value so far at decision epochs, in values of which more is better."""

    epochs: int
    best: float
    half: float
    last: float
    at: Sequence[float]
    is_finite: bool


class Board:
    """What is known of each trial, a row each, in the order in which they were first heard of.

    Values are those of the objective, or their negatives where less is better: more is always better here.

    Args:
        cube: the search space.
        grid: the decision epochs; the last one is the end.
        direction: whether more or less of the objective is better.

    Attributes:
        size: the number of rows.
        rows: the row of each trial's number.
        numbers: the number of each row's trial.
        points: the configurations in the cube, shape (rows, cube.size).
        features: the same as features, shape (rows, cube.width).
        curves: the best value so far at each decision epoch, shape (rows, epochs); NaN beyond `reached`.
        reached: the index of the last decision epoch reached; -1: none.
        epochs: the number of epochs reported.
        best: the best value so far; -inf: none that is finite.
        half: the best value of the first half of all epochs.
        last: the last value that is finite; -inf: none is.
        standing: the trial's `Standing`.
        committed: whether it was chosen to run to its end, and not taken up for less since.
        is_finite: whether the last value that was reported is finite.
        rooms: the share of its bound by which the constraint is kept that is kept least, below 0 where one is violated; NaN:
            none was measured.
    """

    def __init__(self, cube: Cube, grid: Sequence[int], direction: Direction) -> None:
        self.cube = cube
        self.grid = tuple(grid)
        self.sign = 1.0 if direction == "maximize" else -1.0
        self.size = 0
        self.rows: dict[int, int] = {}
        self._tried: set[bytes] = set()
        self.numbers: Indices = np.zeros(AT_FIRST, np.intp)
        self.points: Floats = np.zeros((AT_FIRST, cube.size))
        self.features: Floats = np.zeros((AT_FIRST, cube.width))
        self.curves: Floats = np.full((AT_FIRST, len(self.grid)), np.nan)
        self.reached: Indices = np.zeros(AT_FIRST, np.intp)
        self.epochs: Indices = np.zeros(AT_FIRST, np.intp)
        self.best: Floats = np.zeros(AT_FIRST)
        self.half: Floats = np.zeros(AT_FIRST)
        self.last: Floats = np.zeros(AT_FIRST)
        self.standing: Indices = np.zeros(AT_FIRST, np.intp)
        self.committed: Flags = np.zeros(AT_FIRST, np.bool_)
        self.is_finite: Flags = np.zeros(AT_FIRST, np.bool_)
        self.rooms: Floats = np.full(AT_FIRST, np.nan)

    @property
    def length(self) -> int:
        """The number of epochs of a trial that runs to its end."""
        return self.grid[-1]

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        for trial in trials:
            self._put(self._row(trial), trial)

    def features_of(self, configurations: Iterable[Mapping[str, Scalar]]) -> Floats:
        """Return the features of configurations that need have no row, shape (n, width)."""
        points = [self.cube.at(one) for one in configurations]
        return self.cube.features(np.array(points).reshape(len(points), self.cube.size))

    def are_new(self, points: Floats) -> Flags:
        """Tell which points of the cube, shape (n, size), no trial has, shape (n,)."""
        return np.array([point.tobytes() not in self._tried for point in points], np.bool_)

    def next_epoch(self, row: int) -> int:
        """Return the decision epoch that a trial comes to next."""
        later = (epoch for epoch in self.grid if epoch > self.epochs[row])
        return next(later, self.length)

    def where(self, *standings: Standing) -> Indices:
        """Return the rows of these standings, ascending."""
        found = self.standing[: self.size]
        # Ten times as fast as `numpy.isin`, which sorts first.
        return np.flatnonzero(np.logical_or.reduce([found == one for one in standings]))

    def best_of_all(self) -> float:
        """Return the best value that any trial has shown; -inf: none has shown one."""
        return float(self.best[: self.size].max(initial=-np.inf))

    def _row(self, trial: TrialFacts) -> int:
        if (row := self.rows.get(trial.number)) is not None:
            return row
        if self.size == len(self.numbers):
            self._double()
        row = self.rows[trial.number] = self.size
        self.size += 1
        self.numbers[row] = trial.number
        self.points[row] = self.cube.at(trial.hyperparameters)
        self.features[row] = self.cube.features(self.points[row][None])[0]
        self._tried.add(self.points[row].tobytes())
        return row

    def _put(self, row: int, trial: TrialFacts) -> None:
        standing = standing_of(trial)
        seen = self._read(trial.curve, is_over=trial.state == "completed")
        counts = standing not in (Standing.INFEASIBLE, Standing.GONE)
        self.standing[row] = standing
        self.committed[row] = trial.runs_until is None
        self.epochs[row] = seen.epochs
        self.is_finite[row] = seen.is_finite
        self.best[row] = seen.best if counts else -np.inf
        self.half[row] = seen.half
        self.last[row] = seen.last
        # One that completed and violates a constraint has a value: it is the best of nothing, and tells of others.
        is_known = counts or trial.state == "completed"
        self.reached[row] = len(seen.at) - 1 if is_known else -1
        self.rooms[row] = np.nan if trial.margin is None else -trial.margin
        self.curves[row] = np.nan
        self.curves[row, : len(seen.at)] = seen.at

    def _read(self, curve: Curve, *, is_over: bool) -> _Seen:
        """Return a curve as it is kept; one that is over stays flat from its last epoch on."""
        best, half, last = -np.inf, -np.inf, -np.inf
        at: list[float] = []
        for step, value in curve:
            self._come_to(at, step, best)
            last = last if value is None else self.sign * value
            best = max(best, last)
            half = best if step < max(1, self.length // 2) else half
        epochs = curve[-1][0] + 1 if curve else 0
        self._come_to(at, self.length if is_over else epochs, best)
        if not np.isfinite(best):
            at.clear()
        return _Seen(epochs, best, half, last, at, not curve or curve[-1][1] is not None)

    def _come_to(self, at: list[float], epochs: int, best: float) -> None:
        """Note the best value at each decision epoch up to this number of epochs."""
        while len(at) < len(self.grid) and self.grid[len(at)] <= epochs:
            at.append(best)

    def _double(self) -> None:
        """Make room for as many rows again; what stands there is overwritten before it is read."""
        for name in ARRAYS:
            rows = getattr(self, name)
            setattr(self, name, np.concatenate([rows, rows]))


def standing_of(trial: TrialFacts) -> Standing:
    """Tell what a trial is to a decision."""
    match trial.state:
        case "completed" | "pruned" if trial.violation is not None:
            return Standing.INFEASIBLE
        case "completed":
            return Standing.DONE if trial.value is not None else Standing.GONE
        case "pruned":
            return Standing.ENDED
        case "paused" if trial.paused_by_search:
            return Standing.PAUSED
        case "paused" | "queued" | "running":
            return Standing.RUNNING
        case "failed" if trial.error_kind in INFEASIBLE:
            return Standing.INFEASIBLE
        case "failed" | "cancelled":
            return Standing.GONE
