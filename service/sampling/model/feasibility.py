"""How likely it is that a configuration can be trained at all, from those that could not."""

import numpy as np
from scipy.special import log_ndtr

from service.sampling.model.arrays import Floats, Indices
from service.sampling.model.gaussian_process import GaussianProcess

CERTAINTY = 0.01
"""The variance of a label, which is 1 or -1."""
GREW_BY = 1.2
"""The kernel is fitted anew when there are so many times as many labels."""
MOST = 100
"""How many trials of each kind are looked at, the newest."""


class Feasibility:
    """A Gaussian process over labels: 1 for what was trained, -1 for what failed by its configuration's fault.

    Least-squares classification: Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, section 6.5.

    Args:
        groups: the coordinate of each feature, as in `GaussianProcess`.
    """

    def __init__(self, groups: Indices) -> None:
        self._process = GaussianProcess(groups)
        self._fitted = 0
        self._any = False

    def learn(self, trained: Floats, failed: Floats) -> None:
        """Take over what is known now.

        Args:
            trained: the features of configurations that trained, oldest first, shape (n, width).
            failed: those of configurations that could not be trained, shape (m, width).
        """
        self._any = bool(len(failed))
        if not self._any:
            return
        known = len(trained) + len(failed)
        trained, failed = trained[-MOST:], failed[-MOST:]
        features = np.concatenate([trained, failed])
        labels = np.repeat([1.0, -1.0], [len(trained), len(failed)])
        variance = np.full(len(labels), CERTAINTY)
        if known >= GREW_BY * self._fitted:
            self._process.fit(features, labels, variance)
            self._fitted = known
        self._process.condition(features, labels, variance)

    def log_probability(self, features: Floats) -> Floats:
        """Return the logarithm of the probability that each can be trained, shape (n,), given the shape (n, width)."""
        if not self._any:
            return np.zeros(len(features))
        mean, variance = self._process.predict(features)
        return log_ndtr(mean / np.sqrt(variance))
