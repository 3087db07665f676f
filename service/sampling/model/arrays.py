"""The arrays that the model works with, and the few routines of LAPACK and scipy that it needs, with their types."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_LAPACK = cast(Any, linalg).lapack


def cholesky(matrix: Floats) -> Floats:
    """Return the lower factor of a symmetric matrix, shape (n, n); the upper part of the answer is zero.

    Where rounding has made the matrix indefinite, the diagonal is raised by as little as helps: 1e-10 of its mean, then
    ten times as much, and so on.

    Raises:
        ValueError: the matrix holds a number that is not finite.
    """
    if not np.isfinite(matrix.sum()):
        raise ValueError("a covariance is not finite")
    factor, failed = _LAPACK.dpotrf(matrix, lower=1)
    jitter = 1e-10 * max(float(np.trace(matrix)) / max(len(matrix), 1), 1e-300)
    while failed:
        factor, failed = _LAPACK.dpotrf(matrix + jitter * np.eye(len(matrix)), lower=1)
        jitter *= 10
    return factor


def inverse(factor: Floats) -> Floats:
    """Return the inverse of the matrix of which `factor` is the lower Cholesky factor."""
    lower, _ = _LAPACK.dpotri(factor, lower=1)
    half = np.tril(lower)
    return half + np.tril(half, -1).T


def diagonal_of_inverse(factor: Floats) -> Floats:
    """Return the diagonal of the inverse of the matrix of which `factor` is the lower Cholesky factor, shape (n,).

    Half the work of the whole inverse, and no copies of it.
    """
    found, _ = _LAPACK.dtrtri(factor, lower=1)
    return np.einsum("ij,ij->j", found, found)


def solved(factor: Floats, right: Floats, *, transposed: bool = False) -> Floats:
    """Return x of `factor @ x = right` for a lower factor, or of its transpose; `right` has the shape (n, m)."""
    if not right.size:
        return right
    found, _ = _LAPACK.dtrtrs(factor, right, lower=1, trans=int(transposed))
    return found


def minimised(
    value_and_gradient: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    bounds: Sequence[tuple[float, float]],
    steps: int,
) -> Floats:
    """Return where at most `steps` steps of L-BFGS-B from `start` have come to.

    Byrd, Lu, Nocedal & Zhu, A Limited Memory Algorithm for Bound Constrained Optimization, 1995.
    """
    minimise = cast(Any, optimize).minimize
    found = minimise(
        value_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": steps},
    )
    return found.x if np.isfinite(found.fun) else start


def grown(array: NDArray[Any], index: int) -> NDArray[Any]:
    """Return an array whose first axis has a place for `index`: the same one, or one of twice the length, filled with zeros."""
    if index < len(array):
        return array
    longer = np.zeros((max(2 * len(array), index + 1, 64), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
