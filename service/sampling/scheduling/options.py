"""What a free worker could do next, each with what it is expected to end with, and three ways to choose among these."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from service.sampling.model.arrays import Floats, Indices
from service.sampling.model.expected_improvement import log_expected_improvement

COST_EXPONENT = 0.5
"""How much epochs count against an expected improvement: as their square root."""
LEAST_CHANCE = 0.05
"""A paused trial whose chance to end as the best is smaller is not worth its epochs once nothing else may begin."""


class Options(NamedTuple):
    """Paused trials, then configurations not tried yet. Values are in units of which more is better.

    Attributes:
        rows: The rows of the paused trials, and of the one that has just reported, shape (k,).
        points: The configurations not tried, in the cube, shape (m, size).
        mean: The expected values at the end, shape (k + m,).
        deviation: The standard deviations around these, shape (k + m,).
        told: The expected values as a person is told of these: also those that the model takes for no worse than others.
        spread: The standard deviations that a person is told: for paused trials what their curves alone leave open, since
            the model is surer of these than it should be.
        left: The epochs that each has to its end, shape (k + m,).
        best: The best value so far of those that keep the constraints.
        belief: The addition of the study's priors to the logarithm of an expected improvement, shape (k + m,).
        feasible: The logarithm of the probability that each can be trained and keeps the constraints, shape (k + m,).
    """

    rows: Indices
    points: Floats
    mean: Floats
    deviation: Floats
    told: Floats
    spread: Floats
    left: Floats
    best: float
    belief: Floats
    feasible: Floats

    def ends(self) -> Floats:
        """Return the expected values at the end, those that are hardly feasible as much lower as this is unlikely."""
        return self.mean + self.feasible

    def gains(self) -> Floats:
        """Return how much each is worth its epochs: log expected improvement, less half the log of the epochs."""
        return self.improvements() - COST_EXPONENT * np.log(self.left)

    def improvements(self) -> Floats:
        """Return the logarithm of the expected improvement of each on the best feasible value, weighed by priors and feasibility.

        Hvarfner et al., piBO: Augmenting Acquisition Functions with User Beliefs, ICLR 2022; Gardner et al., Bayesian
        Optimization with Inequality Constraints, ICML 2014.
        """
        gained = log_expected_improvement(self.mean, self.deviation, self.best)
        return gained + self.belief + self.feasible

    def chances(self) -> Floats:
        """Return the probability of each to end better than the best value so far, by how open its end is as it is told."""
        return ndtr((self.mean - self.best) / self.spread)

    def only(self, kept: Indices) -> "Options":
        """Return the options at these places, ascending."""
        split = int(np.searchsorted(kept, len(self.rows)))
        return Options(
            self.rows[kept[:split]],
            self.points[kept[split:] - len(self.rows)],
            self.mean[kept],
            self.deviation[kept],
            self.told[kept],
            self.spread[kept],
            self.left[kept],
            self.best,
            self.belief[kept],
            self.feasible[kept],
        )
