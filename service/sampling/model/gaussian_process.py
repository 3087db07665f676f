"""A Gaussian process over configurations whose observations are each known to a precision of its own.

Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006; hyperparameters at the maximum of their posterior.
"""

from dataclasses import dataclass
from math import ceil, exp, log, sqrt

import numpy as np

from service.sampling.model.arrays import (
    Floats,
    Indices,
    cholesky,
    diagonal_of_inverse,
    inverse,
    minimised,
    solved,
)

STEPS = 15
"""The number of steps that a fit takes at most; the next one begins where it ended."""
GREW_BY = 1.2
"""Hyperparameters are fitted anew when there are so many times as many observations."""
JITTER = 1e-6
"""Variance that each observation has besides its own and the nugget."""
SMALLEST = 1e-8
"""The least variance that is told of anything."""

_ROOT5 = sqrt(5.0)
_LENGTH_PRIOR = (log(0.7), 0.8**2)
_SIGNAL_PRIOR = (log(0.6), 1.0)
_NUGGET_PRIOR = (log(0.02), 1.0)
_LENGTH_BOUNDS = (log(0.05), log(10.0))
_SIGNAL_BOUNDS = (log(0.02), log(10.0))
_NUGGET_BOUNDS = (log(1e-4), log(0.5))
_LENGTH_START, _SIGNAL_START, _NUGGET_START = log(0.6), log(0.5), log(0.02)


def fitted_at(known: int) -> int:
    """Return how many of `known` observations hyperparameters are to be fitted to: it grows by a fifth at a time.

    A number that depends on nothing else: whoever knows the same observations has the same hyperparameters.
    """
    found = min(known, 4)
    while (following := max(found + 1, ceil(GREW_BY * found))) <= known:
        found = following
    return found


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What the kernel is made of, in the features' and the observations' units.

    Attributes:
        lengths: the length scale of each coordinate, shape (size,).
        signal: the variance of the function.
        nugget: the variance of what no neighbour tells.
    """

    lengths: Floats
    signal: float
    nugget: float


@dataclass(frozen=True, slots=True)
class _Known:
    """The observations that predictions are made from."""

    features: Floats
    factor: Floats
    weights: Floats
    mean: float


class GaussianProcess:
    """Constant mean, Matérn-5/2 with one length scale per coordinate, a nugget, and the observations' own variances.

    The constant has the prior N(0, 1): observations are to be in units in which that is wide.

    Args:
        groups: the coordinate of each feature, shape (width,): features of one coordinate share its length scale.
    """

    def __init__(self, groups: Indices) -> None:
        self._groups = groups
        self._size = int(groups.max(initial=-1)) + 1
        self._theta = _joined(np.full(self._size, _LENGTH_START), _SIGNAL_START, _NUGGET_START)
        none = np.zeros((0, len(groups)))
        self._known = _Known(none, np.zeros((0, 0)), np.zeros(0), 0.0)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The kernel as the last fit left it."""
        lengths, (signal, nugget) = self._theta[: self._size], self._theta[self._size :]
        return Hyperparameters(np.exp(lengths), exp(signal), exp(nugget))

    def fit(self, features: Floats, observed: Floats, variance: Floats) -> None:
        """Move the hyperparameters to the maximum of their posterior, from where the last fit left them.

        Args:
            features: the points, shape (n, width).
            observed: the observations, shape (n,).
            variance: the variance of each, shape (n,).
        """
        squares = squared_differences(features, self._groups)
        bounds = [
            *[_LENGTH_BOUNDS] * self._size,
            _SIGNAL_BOUNDS,
            _NUGGET_BOUNDS,
        ]
        self._theta = minimised(
            lambda theta: negative_log_posterior(theta, squares, observed, variance),
            self._theta,
            bounds,
            STEPS,
        )

    def observe(self, features: Floats, observed: Floats, variance: Floats) -> Floats:
        """Take over the observations, in place of all before, and return the mean of the function where they were made.

        The arguments are those of `fit`; the answer has the shape (n,).
        """
        covariance = self._covariance(features, features)
        self._add_noise(covariance, variance)
        factor = cholesky(covariance)
        ones, values = solved(factor, np.stack([np.ones(len(observed)), observed], 1)).T
        mean = float(ones @ values) / (float(ones @ ones) + 1.0)
        weights = solved(factor, (values - mean * ones)[:, None], transposed=True)[:, 0]
        self._known = _Known(features, factor, weights, mean)
        return observed - variance * weights

    def condition(
        self, features: Floats, observed: Floats, variance: Floats
    ) -> tuple[Floats, Floats]:
        """Do as `observe`, and return the variance of the function there too, never above the observation's own."""
        mean = self.observe(features, observed, variance)
        precision = diagonal_of_inverse(self._known.factor)
        left = np.minimum(variance - variance * variance * precision, variance)
        return mean, np.maximum(left, SMALLEST)

    def assume(self, features: Floats, variance: Floats) -> Floats:
        """Add observations of just what is predicted, and return these predictions, shape (m,).

        No mean changes anywhere (the kriging believer: Ginsbourger, Le Riche & Carraro, 2010), only what is uncertain.

        Args:
            features: the points of the assumed observations, shape (m, width).
            variance: the variance of each, shape (m,).
        """
        known = self._known
        mean, half = self._predicted(features)
        covariance = self._covariance(features, features)
        self._add_noise(covariance, variance)
        size = len(known.features)
        factor = np.zeros((size + len(features),) * 2, order="F")
        factor[:size, :size] = known.factor
        factor[size:, :size] = half.T
        factor[size:, size:] = cholesky(covariance - half.T @ half)
        weights = np.concatenate([known.weights, np.zeros(len(features))])
        told = np.concatenate([known.features, features])
        self._known = _Known(told, factor, weights, known.mean)
        return mean

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Return the mean and the variance, each of shape (m,), at other points, shape (m, width)."""
        kernel = self.hyperparameters
        mean, half = self._predicted(features)
        told = np.einsum("ij,ij->j", half, half)
        return mean, np.maximum(kernel.signal + kernel.nugget - told, SMALLEST)

    def _predicted(self, features: Floats) -> tuple[Floats, Floats]:
        """The means at other points, and what the factor makes of their covariances with the observations, shape (n, m)."""
        known = self._known
        across = self._covariance(features, known.features)
        return known.mean + across @ known.weights, solved(known.factor, across.T)

    def _add_noise(self, covariance: Floats, variance: Floats) -> None:
        noise = variance + self.hyperparameters.nugget + JITTER
        covariance[np.diag_indices(len(covariance))] += noise

    def _covariance(self, one: Floats, other: Floats) -> Floats:
        kernel = self.hyperparameters
        scale = 1.0 / kernel.lengths[self._groups]
        return kernel.signal * matern(one * scale, other * scale)


def matern(one: Floats, other: Floats) -> Floats:
    """Return the Matérn-5/2 correlations, shape (n, m), of scaled points of the shapes (n, width) and (m, width)."""
    found = (-2.0 * one) @ other.T
    found += (one * one).sum(1)[:, None]
    found += (other * other).sum(1)
    # In place: fresh memory would take longer than the arithmetic.
    np.sqrt(np.maximum(found, 0.0, out=found), out=found)
    found *= _ROOT5
    decay = np.exp(-found)
    found *= 1.0 + found / 3.0
    found += 1.0
    found *= decay
    return found


def squared_differences(features: Floats, groups: Indices) -> Floats:
    """Return the squared distances in each coordinate, shape (size, n, n)."""
    found = np.zeros((int(groups.max(initial=-1)) + 1, len(features), len(features)))
    for column, group in enumerate(groups):
        found[group] += (features[:, column][:, None] - features[:, column][None]) ** 2
    return found


def negative_log_posterior(
    theta: Floats, squares: Floats, observed: Floats, variance: Floats
) -> tuple[float, Floats]:
    """Return how unlikely hyperparameters are, but for a constant, and its gradient.

    Args:
        theta: the logarithms of the length scales, the signal and the nugget, shape (size + 2,).
        squares: the squared distances in each coordinate, shape (size, n, n).
        observed: the observations, shape (n,).
        variance: the variance of each, shape (n,).
    """
    size = len(squares)
    inverse_squares = np.exp(-2.0 * theta[:size])
    signal, nugget = exp(theta[size]), exp(theta[size + 1])
    distance = _ROOT5 * np.sqrt(np.maximum(np.tensordot(inverse_squares, squares, 1), 1e-12))
    decay = np.exp(-distance)
    kernel = signal * (1.0 + distance + distance * distance / 3.0) * decay
    factor = cholesky(kernel + np.diag(variance + nugget + JITTER))
    precision = inverse(factor)
    ones = precision.sum(0)
    # The constant mean at the maximum of its own posterior: there the gradient in it is zero.
    mean = float(ones @ observed) / (float(ones.sum()) + 1.0)
    weights = precision @ (observed - mean)
    misfit = 0.5 * float((observed - mean) @ weights) + 0.5 * mean * mean
    unlikely = misfit + float(np.log(np.diag(factor)).sum())
    inner = precision - np.outer(weights, weights)
    slope = signal * (5.0 / 3.0) * (1.0 + distance) * decay * inner
    gradient = _joined(
        0.5 * np.tensordot(squares, slope, 2) * inverse_squares,
        0.5 * float((inner * kernel).sum()),
        0.5 * nugget * float(np.trace(inner)),
    )
    prior, prior_gradient = _prior(theta, size)
    return unlikely + prior, gradient + prior_gradient


def _prior(theta: Floats, size: int) -> tuple[float, Floats]:
    """The normal priors of the logarithms."""
    centre = _joined(np.full(size, _LENGTH_PRIOR[0]), _SIGNAL_PRIOR[0], _NUGGET_PRIOR[0])
    spread = _joined(np.full(size, _LENGTH_PRIOR[1]), _SIGNAL_PRIOR[1], _NUGGET_PRIOR[1])
    away = theta - centre
    return float((0.5 * away * away / spread).sum()), away / spread


def _joined(of_lengths: Floats, of_signal: float, of_nugget: float) -> Floats:
    return np.concatenate([of_lengths, [of_signal, of_nugget]])
