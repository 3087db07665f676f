"""Where learning curves end: a chain of linear regressions from one decision epoch to the next."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from service.sampling.model.arrays import Floats, Indices

FIRST_SHARE = 18
"""The first decision comes after an eighteenth of all epochs: those of earlier ones are misled by slow starters."""
GROWTH = 1.33
NEAREST_TO_THE_END = 0.06
"""A decision that comes nearer to the end than this share of all epochs saves too little to be made."""

TRUNK = 4
"""The features of a curve before those of its configuration: 1, the value, the last two differences."""
VALUE, STEP, STEP_BEFORE = 1, 2, 3
PERSISTENCE = 0.75
"""The share of the last difference that the next one is expected to be, before anything is known."""
TRUNK_SPREAD = (0.3, 0.3, 0.5, 0.3)
FEATURE_SPREAD = 0.1
NOISE_AT_FIRST = 0.3
NOISE_DECAY = 0.15
PSEUDO_OBSERVATIONS = 3.0
WEIGHT_BELOW = 0.4
"""The weight of a curve that is worse than the middle: those that matter are the others."""
ROUNDS = 2
HIGHEST_MEAN = 1.6
"""No curve is expected to end higher than this, in units in which the best so far is 1, unless it is there already."""
SMALLEST_VARIANCE = 1e-6


def decision_epochs(epochs: int) -> tuple[int, ...]:
    """Return the numbers of epochs at which trials are decided on; the last one is the end.

    Args:
        epochs: The number of epochs that a trial has at its end, at least 1.
    """
    found = [max(1, math.ceil(epochs / FIRST_SHARE))]
    while found[-1] < epochs:
        found.append(max(found[-1] + 1, round(found[-1] * GROWTH)))
    found = [epoch for epoch in found if epoch < epochs]
    if len(found) > 1 and epochs - found[-1] < max(1, NEAREST_TO_THE_END * epochs):
        found.pop()
    return (*found, epochs)


class Curves(NamedTuple):
    """The curves of n trials at the k decision epochs.

    Attributes:
        values: The best value so far at each decision epoch, shape (n, k): more is better, the best of all trials is near
            1 and the middle 0. What lies beyond `reached` is not read.
        reached: The index of the last decision epoch that each trial reached, shape (n,); -1 where it reached none.
        features: The configuration of each trial, shape (n, width), each feature within 0 and 1.
    """

    values: Floats
    reached: Indices
    features: Floats


@dataclass(frozen=True, slots=True)
class Chain:
    """Regressions that are composed to one linear rule for each decision epoch: from there to the end.

    Each of them is a ridge regression of the difference between two neighbouring decision epochs, over all trials that
    reached the later one. Given its value at the earlier epoch, whether a trial went on says nothing about how, so that
    stopping bad trials does not bias it.

    Attributes:
        coefficients: The rule from each decision epoch to the end, shape (k, 4 + width).
        variances: The variance of the end around that rule, shape (k,).
    """

    coefficients: Floats
    variances: Floats

    @classmethod
    def fit(cls, curves: Curves) -> "Chain":
        """Return the chain that these curves teach; of none, the one that is expected before."""
        epochs = curves.values.shape[1]
        size = TRUNK + curves.features.shape[1]
        coefficients, variances = np.zeros((epochs, size)), np.zeros(epochs)
        coefficients[-1, VALUE] = 1.0
        for at in range(epochs - 2, -1, -1):
            step, variance = _regression(curves, at, size)
            later = coefficients[at + 1]
            gain = later[VALUE] + later[STEP]
            coefficients[at] = _composed(later, gain, step)
            variances[at] = variances[at + 1] + gain * gain * variance
        return cls(coefficients, variances)

    def ends(self, curves: Curves) -> tuple[Floats, Floats]:
        """Return the mean and the variance of the value at the end, each of shape (n,).

        A trial that reached no decision epoch gets the mean 0 and the variance 0.1: nothing is known of it.
        """
        count = len(curves.reached)
        mean, variance = np.zeros(count), np.full(count, 0.1)
        for at in range(len(self.variances)):
            rows = np.flatnonzero(curves.reached == at)
            if len(rows):
                now = curves.values[rows, at]
                found = _features(curves, rows, at) @ self.coefficients[at]
                mean[rows] = np.clip(found, now, np.maximum(HIGHEST_MEAN, now))
                variance[rows] = self.variances[at]
        return mean, np.maximum(variance, SMALLEST_VARIANCE)


def _composed(later: Floats, gain: float, step: Floats) -> Floats:
    """Put the rule of one step before the rule from there on: the value grows by the step, which is the next difference."""
    found = later + gain * step
    found[STEP] += later[STEP_BEFORE] - later[STEP]
    found[STEP_BEFORE] -= later[STEP_BEFORE]
    return found


def _regression(curves: Curves, at: int, size: int) -> tuple[Floats, float]:
    """Return the coefficients of the difference between decision epoch `at` and the next, and its variance."""
    prior, noise = np.zeros(size), (NOISE_AT_FIRST * math.exp(-NOISE_DECAY * at)) ** 2
    prior[STEP] = PERSISTENCE if at else 0.0
    rows = np.flatnonzero(curves.reached > at)
    if not len(rows):
        return prior, 1.5 * noise
    found = _features(curves, rows, at)
    after = curves.values[rows, at + 1]
    rest = after - curves.values[rows, at] - found @ prior
    weight = np.where(after > 0, 1.0, WEIGHT_BELOW)
    moved, variance = _ridge(found, rest, weight, noise)
    return prior + moved, variance * (1 + size / (len(rows) + size))


def _ridge(found: Floats, rest: Floats, weight: Floats, noise: float) -> tuple[Floats, float]:
    """Regress `rest` on features with a normal prior, and estimate the noise beside it by turns."""
    count, size = found.shape
    precision = 1 / _spreads(size) ** 2
    weighted = found * weight[:, None]
    gram, target, total = weighted.T @ found, weighted.T @ rest, float(weight.sum())
    known = PSEUDO_OBSERVATIONS * noise
    variance = (known + float((weight * rest * rest).sum())) / (PSEUDO_OBSERVATIONS + total)
    moved = np.zeros(size)
    for _ in range(ROUNDS):
        matrix = gram / variance
        matrix.flat[:: size + 1] += precision
        moved = _solved(matrix, target / variance)
        left = rest - found @ moved
        freedom = PSEUDO_OBSERVATIONS + total - min(size, 0.3 * count)
        variance = (known + float((weight * left * left).sum())) / freedom
    return moved, variance


def _solved(matrix: Floats, right: Floats) -> Floats:
    return np.asarray(np.linalg.solve(matrix, right), np.float64)


def _spreads(size: int) -> Floats:
    return np.array([*TRUNK_SPREAD, *[FEATURE_SPREAD] * (size - TRUNK)])


def _features(curves: Curves, rows: Indices, at: int) -> Floats:
    """Return the features of curves at a decision epoch, shape (len(rows), 4 + width)."""
    found = np.zeros((len(rows), TRUNK + curves.features.shape[1]))
    found[:, 0] = 1.0
    found[:, VALUE] = curves.values[rows, at]
    differences = ((at - i, at - i - 1) for i in range(min(at, 2)))
    for column, (later, earlier) in zip((STEP, STEP_BEFORE), differences, strict=False):
        found[:, column] = curves.values[rows, later] - curves.values[rows, earlier]
    found[:, TRUNK:] = curves.features[rows] - 0.5
    return found
