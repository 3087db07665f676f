"""Which configurations an acquisition function is asked about."""

from math import log

import numpy as np

from service.sampling.model.arrays import Floats
from service.sampling.model.cube import Cube
from service.sampling.model.prior_weights import PriorWeights

EVENLY, NEARBY, FROM_PRIOR = 100, 60, 24
"""How many are drawn evenly, near the best points, and from the priors."""
BEST = 6
"""How many points the near ones are drawn around."""
SHORTEST_STEP, LONGEST_STEP = 0.02, 0.3
"""The standard deviation of a step lies between these, evenly in its logarithm."""


def candidates(
    cube: Cube,
    best: Floats,
    chance: np.random.Generator,
    priors: PriorWeights | None = None,
    further: Floats | None = None,
) -> Floats:
    """Return points of the cube to choose from, snapped to its cells, shape (n, size).

    Args:
        cube: the space.
        best: the points of the best posterior means, at least one, shape (m, size).
        chance: the generator of the random numbers.
        priors: the priors to draw some from; None: none are drawn.
        further: other points to choose from, shape (k, size).
    """
    found = [chance.random((EVENLY, cube.size)), neighbours(cube, best, NEARBY, chance)]
    if priors:
        found.append(priors.at(chance.random((FROM_PRIOR, cube.size))))
    if further is not None:
        found.append(further)
    return cube.snapped(np.concatenate(found))


def neighbours(cube: Cube, best: Floats, count: int, chance: np.random.Generator) -> Floats:
    """Return points near some of the best: each coordinate takes a step half of the time, and one of these at least.

    Choices have no neighbours: a few of a point's are drawn anew, each alike.
    """
    around = best[chance.integers(len(best), size=count)]
    shares = np.full(cube.size, 0.5)
    shares[cube.choices] = max(1.5 / cube.size, 0.15)
    moved = chance.random(around.shape) < shares
    stuck = np.flatnonzero(~moved.any(1))
    moved[stuck, chance.integers(cube.size, size=len(stuck))] = True
    step = np.exp(chance.uniform(log(SHORTEST_STEP), log(LONGEST_STEP), (count, 1)))
    found = around + step * chance.normal(size=around.shape)
    found[:, cube.choices] = chance.random((count, len(cube.choices)))
    return np.clip(np.where(moved, found, around), 0.0, 1.0)
