"""What each trial is expected to end with, and each configuration: the curves' chain under a Gaussian process."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from service.sampling.model.arrays import Floats, Indices
from service.sampling.model.curves import Chain, Curves
from service.sampling.model.feasibility import Feasibility
from service.sampling.model.gaussian_process import GaussianProcess
from service.sampling.scheduling.board import Board, Standing
from trimtab.contract.reasons import Expected

RENEWED_AT = 1.2
"""Units and the process's hyperparameters are renewed when there are this many times as many trials."""
LOWEST_CURVE = -3.0
LOWEST_END = -1.5
"""What is worse than this, in units in which the middle is 0 and the best 1, is as bad as this to the process."""
MOST_SHOWN, MOST_BEST = 200, 150
"""The process sees this many trials at most, and among these this many of the best; the others are the newest."""
MOST_FITTED, MOST_BEST_FITTED = 150, 75
OPTIMISM = 0.3
"""The best ones are the highest by the mean and this many standard deviations."""
BELIEVED_VARIANCE = 0.1
"""The variance of the value that is expected of a trial which has shown none."""
FEWEST_EXPECTED = 5
"""The middle is that of the expected ends from this many on, and that of what trials have shown before."""
WITHIN = 1.96
"""The standard deviations to each side of the mean that hold 95 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Units:
    """The scale in which the middle of the expected ends is 0 and the best value so far is 1.

    Attributes:
        middle: The value at 0, in the objective's unit, or its negative where less is better.
        width: The length of a unit.
    """

    middle: float
    width: float

    @classmethod
    def of(cls, ends: Floats, best: float) -> "Units":
        """Return the units of these ends, of which there is one at least."""
        middle = float(np.median(ends))
        return cls(middle, max(best - middle, 1e-3 * abs(best), 1e-9))

    def to(self, values: Floats) -> Floats:
        """Return values of the objective in these units."""
        return (values - self.middle) / self.width

    def back(self, values: Floats) -> Floats:
        """Return values in these units in the objective's own."""
        return values * self.width + self.middle


class Ends(NamedTuple):
    """What curves alone say of the ends of all rows of a board, in units.

    Attributes:
        mean: The expected value at the end, shape (rows,).
        variance: The variance around it, shape (rows,).
    """

    mean: Floats
    variance: Floats


class Posterior(NamedTuple):
    """What curves and configurations together say.

    Attributes:
        rows: The rows of the board that the process saw, shape (n,).
        mean: The expected values at their ends in units, shape (n,).
        variance: The variances around them, none larger than what the curve alone leaves, shape (n,).
    """

    rows: Indices
    mean: Floats
    variance: Floats


class Forecast:
    """A model of one study's board, whose units and hyperparameters are renewed as the board grows.

    Swersky, Snoek & Adams, Freeze-Thaw Bayesian Optimization, 2014, with regressions in place of exponential curves.

    Args:
        board: The trials.
        bounds: The least and the largest value that the objective can have.
    """

    def __init__(self, board: Board, bounds: tuple[float, float] = (-np.inf, np.inf)) -> None:
        self._board = board
        self._bounds = bounds
        self._process = GaussianProcess(board.cube.groups)
        self._feasibility = Feasibility(board.cube.groups)
        self._expected: Floats = np.zeros(0)
        """What trials were expected to end with at the last decision, in the objective's unit."""
        self._renewed_at = 0
        self.units = Units(0.0, 1.0)

    @property
    def best(self) -> float:
        """The best value so far in units."""
        return (self._board.best_of_all() - self.units.middle) / self.units.width

    def told(self, mean: float, deviation: float) -> Expected | None:
        """Return an expected value in units as a person reads it, with its 95 % interval; None before there are units."""
        if not len(self._expected):
            return None
        sides = np.array([mean, mean - WITHIN * deviation, mean + WITHIN * deviation])
        found = np.clip(self._board.sign * self.units.back(sides), *self._bounds)
        value, *ends = found.tolist()
        return Expected(value=value, low=min(ends), high=max(ends))

    def ends(self) -> Ends:
        """Return what the curves alone say, in units that are renewed where it is time to."""
        if self._is_due():
            # After a restart no ends have been expected yet: the values that trials have shown stand in for these once.
            is_anew = not len(self._expected) and len(self._board.where(Standing.DONE)) > 0
            for _ in range(2 if is_anew else 1):
                self.units = Units.of(self._middling(), self._board.best_of_all())
                self._expected = self._back(self.as_it_stands())
        found = self.as_it_stands()
        self._expected = self._back(found)
        return found

    def as_it_stands(self) -> Ends:
        """Return what the curves alone say, in the units of the last renewal."""
        board = self._board
        values = np.maximum(self.units.to(board.curves[: board.size]), LOWEST_CURVE)
        curves = Curves(values, board.reached[: board.size], board.features[: board.size])
        return Ends(*Chain.fit(curves).ends(curves))

    def log_feasible(self, features: Floats) -> Floats:
        """Return the logarithm of the probability that configurations can be trained and keep the constraints, shape (m,)."""
        board = self._board
        rooms = board.rooms[: board.size]
        told = board.where(Standing.DONE, Standing.INFEASIBLE)
        if np.isnan(rooms).all():
            # Without constraints, what has trained for a while can be trained.
            told = board.where(
                Standing.DONE, Standing.INFEASIBLE, Standing.ENDED, Standing.PAUSED
            )
        is_infeasible = board.standing[told] == Standing.INFEASIBLE
        failed = np.flatnonzero(is_infeasible & np.isnan(rooms[told]))
        self._feasibility.learn(board.features[told], failed, rooms[told])
        return self._feasibility.log_probability(features)

    def condition(
        self, ends: Ends, known: Indices, believed: Floats, chance: np.random.Generator
    ) -> Posterior:
        """Show the process what is known, and return what it makes of that.

        Args:
            ends: The answer of `ends`.
            known: The rows that the process may see, one at least.
            believed: The features of trials that have shown nothing, shape (m, width): they count as their expected value,
                so that trials that begin at the same time lie apart.
            chance: The source of random numbers.
        """
        board = self._board
        rows = _shown(ends, known)
        if self._is_due():
            fitted = _fitted(ends, rows, chance)
            self._process.fit(*self._observed(ends, fitted))
            self._renewed_at = board.size
        features, mean, variance = self._observed(ends, rows)
        if len(believed):
            self._process.observe(features, mean, variance)
            guess, _ = self._process.predict(believed)
            features = np.concatenate([features, believed])
            mean = np.concatenate([mean, guess])
            variance = np.concatenate([variance, np.full(len(believed), BELIEVED_VARIANCE)])
        found = self._process.condition(features, mean, variance)
        posterior, left = (one[: len(rows)] for one in found)
        return Posterior(rows, posterior, np.minimum(left, variance[: len(rows)]))

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Return the mean and the variance, each of shape (m,), that the process expects of configurations not tried."""
        return self._process.predict(features)

    def _observed(self, ends: Ends, rows: Indices) -> tuple[Floats, Floats, Floats]:
        mean = np.maximum(ends.mean[rows], LOWEST_END)
        return self._board.features[rows], mean, ends.variance[rows]

    def _middling(self) -> Floats:
        """Return the values whose median is the middle: the expected ends, or what trials have shown while these are few."""
        if len(self._expected) >= FEWEST_EXPECTED:
            return self._expected
        best = self._board.best[: self._board.size]
        return best[np.isfinite(best)]

    def _back(self, ends: Ends) -> Floats:
        rows = np.flatnonzero(self._board.reached[: self._board.size] >= 0)
        return self.units.back(ends.mean[rows])

    def _is_due(self) -> bool:
        return self._board.size >= RENEWED_AT * self._renewed_at


def _shown(ends: Ends, known: Indices) -> Indices:
    """Return the rows that the process sees: all, or the best and the newest of these."""
    if len(known) <= MOST_SHOWN:
        return known
    hopes = ends.mean[known] + OPTIMISM * np.sqrt(ends.variance[known])
    best = known[np.argsort(-hopes)[:MOST_BEST]]
    is_best = np.zeros(known[-1] + 1, np.bool_)
    is_best[best] = True
    newest = known[~is_best[known]][-(MOST_SHOWN - MOST_BEST) :]
    return np.sort(np.concatenate([best, newest]))


def _fitted(ends: Ends, rows: Indices, chance: np.random.Generator) -> Indices:
    """Return the rows that the hyperparameters are fitted to: all, or the best ones and others by chance."""
    if len(rows) <= MOST_FITTED:
        return rows
    best = rows[np.argsort(-np.maximum(ends.mean[rows], LOWEST_END))[:MOST_BEST_FITTED]]
    others = chance.choice(rows, MOST_FITTED - MOST_BEST_FITTED, replace=False)
    return np.unique(np.concatenate([best, others]))


def unclipped(ends: Ends, rows: Indices, mean: Floats) -> Floats:
    """Return the expected values of trials, shape (rows,), with those of bad ones as low as their curves say.

    Args:
        ends: The answer of `Forecast.ends`.
        rows: The rows of the trials.
        mean: The expected values that are no lower than what the process is shown, shape (rows,).
    """
    return np.where(ends.mean[rows] < LOWEST_END, ends.mean[rows], mean)
