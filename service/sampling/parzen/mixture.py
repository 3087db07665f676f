"""A Parzen estimator: a mixture with one kernel for each trial, and one as wide as the space."""

import math

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from service.sampling.parzen.axes import Axes, Indices, Numbers, Points
from service.sampling.parzen.truncated import log_mass, log_mass_of_cells, quantiles

FLAT = 25
"""The number of newest trials that weigh alike; the older a trial before those, the less it weighs."""
SHARPEST = 100.0
"""The narrowest kernel's part of its range; with fewer trials than this it is wider (the magic clip)."""
LARGEST_TABLE = 256
"""A range with at most this many points has the mass of each kernel at each point kept, and not computed anew."""

_LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)


def weights_of(count: int) -> Numbers:
    """Return the weights of trials, oldest first, and last that of the kernel as wide as the space; their sum is 1.

    As in Bergstra et al., Making a science of model search (2013): the newest 25 and the wide kernel weigh alike, and the
    weights rise to that in a line.
    """
    found = np.ones(count + 1)
    rising = count - FLAT
    if rising > 0:
        found[:rising] = (
            np.arange(rising) * ((1.0 - 1.0 / count) / max(rising - 1, 1)) + 1.0 / count
        )
    return found / found.sum()


class Mixture:
    """The density of some trials of a study, kept from one proposal to the next.

    What the logarithm of a kernel's mass and of its cells needs is computed for those kernels alone that are new or whose
    width has changed: a trial that joins changes the widths of its neighbours.
    """

    def __init__(self, axes: Axes) -> None:
        ranges = axes.ranges
        self._axes, self._ranges, self._choices = axes, ranges, axes.choices
        self._numbers: Indices = np.empty(0, np.int64)
        # A column for each kernel; the last one is the one as wide as the space.
        self._centres = np.full((ranges.count, 1), 0.5)
        self._widths = np.ones((ranges.count, 1))
        self._masses = self._log_masses(self._centres, self._widths)
        self._picks: Indices = np.empty((len(axes.choices), 0), np.int64)
        self._tables = {
            place: self._cells_of(place, np.arange(levels), np.full(1, 0.5), np.ones(1))
            for place, levels in ranges.levels.items()
            if levels <= LARGEST_TABLE
        }
        self._weights = self._log_shares = np.empty(0)
        self._weigh()

    def show(self, numbers: Indices, shares: Numbers, picks: Indices) -> None:
        """Take these trials as all there are.

        Args:
            numbers: The numbers of the trials, ascending; the later ones are the newer ones.
            shares: The places of their values within the ranges, one row for each range, from 0 to 1.
            picks: The indices of their choices, one row for each dimension of choices.
        """
        self._picks = picks
        if not (
            np.array_equal(numbers, self._numbers)
            and np.array_equal(shares, self._centres[:, :-1])
        ):
            self._renew(numbers, shares)
            self._weigh()

    def log_density(self, points: Points) -> Numbers:
        """Return the logarithm of the density at each point, with the ranges mapped to the interval from 0 to 1."""
        found = self._of_continuous(points) + self._log_weights
        for column, place in enumerate(self._ranges.levels):
            found += self._of_stepped(place, points.indices[:, column])
        for place, choices in enumerate(self._choices):
            found += self._of_choices(place, choices, points.picks[:, place])
        highest = found.max(axis=1)
        found -= highest[:, None]
        return highest + np.log(np.exp(found, out=found).sum(axis=1))

    def sample(self, rng: RandomState, count: int) -> Points:
        """Draw points; the random numbers are used in the order in which Optuna uses them."""
        cumulated = np.cumsum(self._weights)
        cumulated /= cumulated[-1]
        kernels = np.searchsorted(cumulated, rng.random_sample(count), side="right")
        picks = np.empty((count, len(self._choices)), np.int64)
        for place, choices in enumerate(self._choices):
            cumulated = np.cumsum(self._shares_of_choices(place, choices, kernels), axis=1)
            cumulated[:, -1] = 1.0
            picks[:, place] = (cumulated < rng.random_sample(count)[:, None]).sum(axis=1)
        if not self._ranges.count:
            return self._axes.points(np.empty((count, 0)), picks)
        centres, widths = self._centres[:, kernels], self._widths[:, kernels]
        shares = rng.random_sample(centres.shape)
        ends = -centres / widths, (1.0 - centres) / widths
        drawn = quantiles(shares, *ends, self._masses[:, kernels])
        return self._axes.points(self._ranges.values((drawn * widths + centres).T), picks)

    def _renew(self, numbers: Indices, shares: Numbers) -> None:
        places = np.searchsorted(self._numbers, numbers)
        # Whoever was not here before is compared with the wide kernel, whose width none of them has at its place.
        known = np.append(self._numbers, -1)[places] == numbers
        places = np.append(np.where(known, places, len(self._numbers)), len(self._numbers))
        widths = np.ones((self._ranges.count, len(numbers) + 1))
        widths[:, :-1] = _widths(shares)
        centres = np.full(widths.shape, 0.5)
        centres[:, :-1] = shares
        changed = (widths != self._widths[:, places]) | (centres != self._centres[:, places])
        self._numbers, self._widths, self._centres = numbers, widths, centres
        self._masses = self._masses[:, places]
        self._masses[changed] = self._log_masses(centres[changed], widths[changed])
        for place, table in self._tables.items():
            self._tables[place] = self._renewed(place, table[places], changed[place])

    def _renewed(self, place: int, table: Numbers, changed: NDArray[np.bool_]) -> Numbers:
        every = np.arange(self._ranges.levels[place], dtype=np.int64)
        of_place = slice(place, place + 1)
        centres, widths = self._centres[of_place, changed], self._widths[of_place, changed]
        table[changed] = self._cells_of(place, every, centres, widths)
        return table

    def _weigh(self) -> None:
        """Gather what all densities need: weights, and the exponents of the kernels as polynomials of the points."""
        if len(self._weights) != len(self._numbers) + 1:
            self._weights = weights_of(len(self._numbers))
            self._log_shares = np.log(self._weights)
        self._log_weights = self._log_shares - self._masses.sum(axis=0)
        some = self._ranges.continuous
        centres, widths = self._centres[some], self._widths[some]
        curvature = -0.5 / widths**2
        self._polynomials = np.concatenate([curvature, -2.0 * curvature * centres])
        constants = curvature * centres**2 - np.log(widths) - _LOG_ROOT_2_PI
        self._log_weights += constants.sum(axis=0)

    @staticmethod
    def _log_masses(centres: Numbers, widths: Numbers) -> Numbers:
        return log_mass(-centres / widths, (1.0 - centres) / widths)

    def _of_continuous(self, points: Points) -> Numbers:
        # The square of a difference, multiplied out, is a product of matrices; shares lie between 0 and 1 and no kernel is
        # narrower than a hundredth, so that it loses 12 of 16 digits at no point that counts.
        shares = points.shares
        if self._ranges.levels:
            shares = shares[:, self._ranges.continuous]
        return np.concatenate([shares**2, shares], axis=1) @ self._polynomials

    def _of_stepped(self, place: int, indices: Indices) -> Numbers:
        table = self._tables.get(place)
        if table is not None:
            return table[:, indices].T
        distinct, which = np.unique(indices, return_inverse=True)
        of_place = slice(place, place + 1)
        cells = self._cells_of(place, distinct, self._centres[of_place], self._widths[of_place])
        return cells[:, which].T

    def _cells_of(
        self, place: int, indices: Indices, centres: Numbers, widths: Numbers
    ) -> Numbers:
        """Return the logarithm of the mass of kernels (rows) at points of one range (columns)."""
        begin, end = self._ranges.edges(place, indices)
        centre, width = centres.reshape(-1, 1), widths.reshape(-1, 1)
        return log_mass_of_cells((begin - centre) / width, (end - centre) / width)

    def _of_choices(self, place: int, choices: int, picked: Indices) -> Numbers:
        hit, miss = _hit_and_miss(len(self._numbers), choices)
        found = np.full((len(picked), len(self._numbers) + 1), -math.log(choices))
        found[:, :-1] = np.where(
            picked[:, None] == self._picks[place], math.log(hit), math.log(miss)
        )
        return found

    def _shares_of_choices(self, place: int, choices: int, kernels: Indices) -> Numbers:
        hit, miss = _hit_and_miss(len(self._numbers), choices)
        found = np.full((len(kernels), choices), 1.0 / choices)
        of_trials = np.flatnonzero(kernels < len(self._numbers))
        found[of_trials] = miss
        found[of_trials, self._picks[place, kernels[of_trials]]] = hit
        return found


def _hit_and_miss(trials: int, choices: int) -> tuple[float, float]:
    """Return the probability of a trial's kernel at its own choice, and at each other one."""
    smoothing = 1.0 / (trials + 1)
    total = 1.0 + choices * smoothing
    return (1.0 + smoothing) / total, smoothing / total


def _widths(shares: Numbers) -> Numbers:
    """Return the width of each trial's kernel in each range: the wider of the gaps to its neighbours.

    The outermost ones have one neighbour; a single trial has the bounds. None is wider than the range, or narrower than
    its part of `SHARPEST` or, with fewer trials, of their number and 2.
    """
    ranges, count = shares.shape
    if not count or not ranges:
        return np.empty(shares.shape)
    # Of equal values one gets the gap to the left and one that to the right: which ones, is up to the sort, as in Optuna.
    starts = np.arange(0, ranges * count, count, dtype=np.int64)[:, None]
    order = np.argsort(shares, axis=1).astype(np.int64, copy=False) + starts
    padded = np.empty((ranges, count + 2))
    padded[:, 0], padded[:, 1:-1], padded[:, -1] = 0.0, shares.ravel()[order], 1.0
    gaps = np.diff(padded, axis=1)
    wider = np.maximum(gaps[:, :-1], gaps[:, 1:])
    if count >= 2:
        wider[:, 0], wider[:, -1] = gaps[:, 1], gaps[:, -2]
    found = np.empty(ranges * count)
    found[order.ravel()] = np.clip(wider, 1.0 / min(SHARPEST, 2.0 + count), 1.0).ravel()
    return found.reshape(shares.shape)
