"""Expected improvement, in logarithms: what is left of it far below the best still tells points apart."""

from math import log, pi

import numpy as np
from scipy.special import erfcx, ndtr

from service.sampling.model.arrays import Floats

NEAR, FAR = -1.0, -1000.0
"""Where the plain formula loses digits, and where a series is exact; in standard deviations from the best."""

_LOG_ROOT_2PI = 0.5 * log(2.0 * pi)
_ROOT_HALF_PI = float(np.sqrt(0.5 * pi))


def log_expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """Return the logarithm of how much a normal value is expected to lie above `best`; more is better.

    Ament et al., Unexpected Improvements to Expected Improvement for Bayesian Optimization, NeurIPS 2023.

    Args:
        mean: the means, shape (n,).
        deviation: the standard deviations, each above 0, shape (n,).
        best: the value to improve on, in the same unit.
    """
    return np.log(deviation) + _log_improvement((mean - best) / deviation)


def _log_improvement(z: Floats) -> Floats:
    """The logarithm of phi(z) + z Phi(z), the expected improvement of a standard normal value over -z."""
    found = np.empty_like(z)
    near, far = z > NEAR, z < FAR
    between = ~(near | far)
    found[near] = np.log(np.exp(-0.5 * z[near] ** 2 - _LOG_ROOT_2PI) + z[near] * ndtr(z[near]))
    x = -z[between]
    # phi(z) (1 - x Phi(-x) / phi(x)), where the ratio is Mills's.
    mills = _ROOT_HALF_PI * erfcx(x * np.sqrt(0.5))
    found[between] = -0.5 * x * x - _LOG_ROOT_2PI + np.log1p(-x * mills)
    x = -z[far]
    found[far] = -0.5 * x * x - _LOG_ROOT_2PI - 2.0 * np.log(x) + np.log1p(-3.0 / (x * x))
    return found
