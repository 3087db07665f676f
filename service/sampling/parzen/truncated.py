"""The normal distribution cut off at both ends, over whole arrays, also far out in its tails.

`a` and `b` are the ends in standard deviations from the centre, which lies between them: a <= 0 <= b.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri_exp

Numbers = NDArray[np.float64]

SMALLEST = 1e-300
"""A mass below it counts as this much: beside it a mixture always has a kernel that is as wide as the range."""


def log_mass(a: Numbers, b: Numbers) -> Numbers:
    """Return the logarithm of the mass between the ends: not a difference of two numbers near to 1."""
    return np.log1p(-ndtr(a) - ndtr(-b))


def log_mass_of_cells(begin: Numbers, end: Numbers) -> Numbers:
    """Return the logarithm of the mass between any two points, in standard deviations from the centre."""
    # The right tail is mirrored: there both distribution functions are near to 1.
    right = begin > 0
    low, high = np.where(right, -end, begin), np.where(right, -begin, end)
    return np.log(np.maximum(ndtr(high) - ndtr(low), SMALLEST))


def quantiles(shares: Numbers, a: Numbers, b: Numbers, log_masses: Numbers) -> Numbers:
    """Return the points, in standard deviations from the centre, below which shares of the mass lie.

    Args:
        shares: The shares, from 0 to 1.
        a: The lower ends.
        b: The upper ends.
        log_masses: The logarithms of the masses between the ends.
    """
    below = np.logaddexp(log_ndtr(a), np.log(np.maximum(shares, SMALLEST)) + log_masses)
    return np.minimum(np.maximum(ndtri_exp(np.minimum(below, 0.0)), a), b)
