"""Few-shot training: the part of the train split that a trial with few labels learns from."""

import numpy as np
from numpy.typing import NDArray


def choose(labels: NDArray[np.generic], shots: int, *, seed: int) -> NDArray[np.int64]:
    """Return the rows of `shots` pictures of each class, in the order of the split; nested: 5 are among 10.

    Args:
        labels: The labels of the split: class positions, int64 `(N,)`, or `(N, targets)` for other tasks, in which
            `shots` pictures are chosen in all.
        shots: The number of pictures; a class that has fewer keeps all of them.
        seed: The seed of the choice. It comes from the data, never from a trial, so that all trials learn from the
            same pictures.
    """
    if labels.ndim > 1:
        groups = [np.arange(len(labels))]
    else:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    chosen = [
        np.random.default_rng([seed, number]).permutation(group)[:shots]
        for number, group in enumerate(groups)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
