"""Expected hypervolume improvement of two objectives, in closed form; more of both is better.

The hypervolume of a set of points is the area that they dominate above a reference point. What a point (z1, z2) adds to
it is the integral over u from the reference's first coordinate to z1 of how far z2 lies above the height of the front at
u. Between two neighbours of the front that height is constant, and two independent processes make the expectation of
each such strip a product of two one-dimensional ones: Emmerich, Deutz & Klinkenberg, Hypervolume-based Expected
Improvement: Monotonicity Properties and Exact Computation, CEC 2011; Yang, Emmerich, Deutz & Baeck, Efficient Computation
of Expected Hypervolume Improvement Using Box Decomposition Algorithms, Journal of Global Optimization 75, 2019.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from service.sampling.model.arrays import Floats

LEAST = 1e-300
"""An improvement below it counts as it: the logarithm stays finite."""
_ROOT_2PI = float(np.sqrt(2.0 * np.pi))


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a process predicts of one objective.

    Attributes:
        mean: the means, shape (n,).
        deviation: the standard deviations, each above 0, shape (n,).
    """

    mean: Floats
    deviation: Floats

    def above(self, bounds: Floats) -> Floats:
        """Return how far each value is expected to lie above each bound, where it does, shape (n, m)."""
        z = (self.mean[:, None] - bounds) / self.deviation[:, None]
        return self.deviation[:, None] * (z * ndtr(z) + np.exp(-0.5 * z * z) / _ROOT_2PI)


def front_of(values: Floats) -> Floats:
    """Return the points that no other one dominates, each once, by the first objective ascending, shape (m, 2).

    Args:
        values: points, more of both being better, shape (n, 2).
    """
    order = np.lexsort((-values[:, 1], -values[:, 0]))
    ranked = values[order]
    before = np.maximum.accumulate(np.concatenate([[-np.inf], ranked[:-1, 1]]))
    return ranked[ranked[:, 1] > before][::-1]


def hypervolume(front: Floats, reference: Floats) -> float:
    """Return the area that a front dominates above a reference point.

    Args:
        front: the front, as `front_of` returns it.
        reference: the reference point, shape (2,).
    """
    kept = front[(front > reference).all(axis=1)]
    widths = np.diff(kept[:, 0], prepend=reference[0])
    return float(widths @ (kept[:, 1] - reference[1]))


def log_expected_improvement(
    first: Predicted, second: Predicted, front: Floats, reference: Floats
) -> Floats:
    """Return the logarithm of the hypervolume that each point is expected to add, shape (n,).

    Args:
        first: the predictions of the first objective.
        second: those of the second, independent of the first ones.
        front: the front to improve on, as `front_of` returns it; none of its points lies below the reference.
        reference: the reference point, shape (2,).
    """
    # Strips of the first objective: from the reference to the first point, between neighbours, and beyond the last one.
    wide = first.above(np.concatenate([reference[:1], front[:, 0]]))
    wide[:, :-1] -= wide[:, 1:].copy()
    high = second.above(np.concatenate([front[:, 1], reference[1:]]))
    return np.log(np.maximum((np.maximum(wide, 0.0) * high).sum(axis=1), LEAST))
