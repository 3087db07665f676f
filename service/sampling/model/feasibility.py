"""How likely it is that a configuration can be trained and keeps the constraints, from those that could not or do not."""

import numpy as np
from scipy.special import log_ndtr

from service.sampling.model.arrays import Floats, Indices
from service.sampling.model.gaussian_process import GaussianProcess, fitted_at

CERTAINTY = 0.01
"""The variance of a label, which is 1 or -1."""
FAR = 0.5
"""From this share of its bound on, a constraint counts as kept or violated by far: its label is 1 or -1."""
MOST = 100
"""How many trials of each kind are looked at, the newest."""


class Feasibility:
    """A Gaussian process over labels: 1 for what was trained, -1 for what failed by its configuration's fault.

    Where there are constraints, what was trained has a label by how far it keeps them.

    Least-squares classification: Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, section 6.5.

    Args:
        groups: the coordinate of each feature, as in `GaussianProcess`.
    """

    def __init__(self, groups: Indices) -> None:
        self._groups = groups
        self._process = GaussianProcess(groups)
        self._fitted_to = b""
        self._any = False

    def learn(self, features: Floats, failed: Indices, rooms: Floats | None = None) -> None:
        """Take over what is known now, in place of what was.

        Args:
            features: the features of all configurations that trained or could not be trained, oldest first, shape (n, width).
            failed: the rows of those that could not be trained.
            rooms: the shares of their bounds by which configurations keep their constraints, below 0 where they violate one,
                shape (n,); NaN, or None for all, where there are none.
        """
        labels = np.ones(len(features))
        if rooms is not None:
            labels = np.where(np.isnan(rooms), 1.0, np.clip(rooms / FAR, -1.0, 1.0))
        labels[failed] = -1.0
        self._any = bool((labels < 0).any())
        if not self._any:
            return
        self._fit(features, labels)
        rows = _newest(labels)
        self._process.observe(features[rows], labels[rows], np.full(len(rows), CERTAINTY))

    def log_probability(self, features: Floats) -> Floats:
        """Return the logarithm of the probability that each is feasible, shape (n,), given the shape (n, width)."""
        if not self._any:
            return np.zeros(len(features))
        mean, variance = self._process.predict(features)
        return log_ndtr(mean / np.sqrt(variance))

    def _fit(self, features: Floats, labels: Floats) -> None:
        first = fitted_at(len(labels))
        features, labels = features[:first], labels[:first]
        fitted_to = features.tobytes() + labels.tobytes()
        if fitted_to != self._fitted_to:
            rows = _newest(labels)
            self._process = GaussianProcess(self._groups)
            self._process.fit(features[rows], labels[rows], np.full(len(rows), CERTAINTY))
            self._fitted_to = fitted_to


def _newest(labels: Floats) -> Indices:
    """Return the rows of the last ones of each kind."""
    kinds = (np.flatnonzero(labels >= 0)[-MOST:], np.flatnonzero(labels < 0)[-MOST:])
    return np.concatenate(kinds)
