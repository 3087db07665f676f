"""The priors of a space's dimensions over its unit cube: points drawn from these, and how dense they are at a point."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi, sqrt

import numpy as np
from scipy.special import ndtr, ndtri

from service.sampling.model.arrays import Floats
from service.sampling.model.cube import Axis, Cube
from trimtab.contract.search_space import Choices

EVEN_SHARE = 0.1
"""The share of each prior that is spread evenly, so that none closes a region: a density is never below it."""
FAVOURED_SHARE = 0.5
"""How often a favoured choice is drawn (as in `service.sampling.prior`)."""
WIDEST = 100.0
"""A prior that is so many times as wide as its range is even over it."""


@dataclass(frozen=True, slots=True)
class _Normal:
    """A normal distribution of a coordinate, cut off at 0 and 1."""

    centre: float
    spread: float

    def at(self, shares: Floats) -> Floats:
        """Return the coordinates below which these shares of the distribution lie."""
        low, mass = self._low, self._mass
        found = ndtri(np.clip(low + shares * mass, 1e-300, 1.0 - 1e-16))
        return np.clip(self.centre + self.spread * found, 0.0, 1.0)

    def density(self, coordinates: Floats) -> Floats:
        """Return the density; 1 is that of the even distribution."""
        z = (coordinates - self.centre) / self.spread
        return np.exp(-0.5 * z * z) / (sqrt(2.0 * pi) * self.spread * self._mass)

    @property
    def _low(self) -> float:
        return float(ndtr(-self.centre / self.spread))

    @property
    def _mass(self) -> float:
        return float(ndtr((1.0 - self.centre) / self.spread)) - self._low


@dataclass(frozen=True, slots=True)
class _Favoured:
    """One of several cells, drawn half of the time; the others share the rest."""

    cell: int
    cells: int

    def at(self, shares: Floats) -> Floats:
        """Return the centres of the cells at these shares, the favoured one first."""
        others = self.cells - 1
        rest = (shares - FAVOURED_SHARE) / (1.0 - FAVOURED_SHARE)
        other = np.minimum(np.floor(rest * others), others - 1)
        other += other >= self.cell
        return (np.where(shares < FAVOURED_SHARE, self.cell, other) + 0.5) / self.cells

    def density(self, coordinates: Floats) -> Floats:
        """Return the density; 1 is that of the even distribution."""
        cell = np.minimum(np.floor(coordinates * self.cells), self.cells - 1)
        share = (1.0 - FAVOURED_SHARE) / (self.cells - 1)
        return np.where(cell == self.cell, FAVOURED_SHARE, share) * self.cells


class PriorWeights:
    """The priors of the coordinates that have one; the others count as even."""

    def __init__(self, cube: Cube) -> None:
        self._size = cube.size
        self._activity = cube.activity
        found = ((column, _prior(one)) for column, one in enumerate(cube.axes))
        self._priors = {column: prior for column, prior in found if prior}

    def __bool__(self) -> bool:
        """Whether any coordinate has a prior."""
        return bool(self._priors)

    def at(self, shares: Floats) -> Floats:
        """Return the points at these shares of the priors: numbers between 0 and 1, shape (n, size)."""
        found = shares.copy()
        for column, prior in self._priors.items():
            found[:, column] = prior.at(shares[:, column])
        return found

    def log_density(self, points: Floats) -> Floats:
        """Return the logarithm of the density at each point, shape (n,); 0 is that of no prior at all.

        What is inactive has no prior: its usual value, where a prior is densest, would speak for points that lack it.
        """
        found, is_active = np.zeros(len(points)), self._activity.of(points)
        for column, prior in self._priors.items():
            density = prior.density(points[:, column])
            logarithm = np.log(EVEN_SHARE + (1.0 - EVEN_SHARE) * density)
            found += np.where(is_active[:, column], logarithm, 0.0)
        return found

    def weigh(self, points: Floats, strength: float, ended: int) -> Floats:
        """Return what the priors add to the logarithm of an acquisition function, shape (n,).

        Hvarfner et al., piBO: Augmenting Acquisition Functions with User Beliefs, ICLR 2022.

        Args:
            points: the points, shape (n, size).
            strength: the weight after one trial.
            ended: the number of trials that have ended, at least 1: the weight fades with it.
        """
        return strength / ended * self.log_density(points)


def _prior(one: Axis) -> _Normal | _Favoured | None:
    dimension = one.dimension
    if isinstance(dimension, Choices):
        if dimension.prior is None:
            return None
        return _Favoured(dimension.choices.index(dimension.prior), one.cells)
    if dimension.prior is None:
        return None
    scale: Callable[[float], float] = log if dimension.log else float
    given = dimension.prior_spread
    usual = (one.high - one.low) / 6
    spread = usual if given is None else given * (log(10) if dimension.log else 1.0)
    if spread > WIDEST * one.width:
        return None
    return _Normal((scale(dimension.prior) - one.start) / one.width, spread / one.width)
