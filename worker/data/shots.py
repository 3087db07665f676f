"""So many labelled pictures and no more: what a training with few labels may see of the train split."""

import numpy as np
from numpy.typing import NDArray


def choose(labels: NDArray[np.generic], shots: int, *, seed: int) -> NDArray[np.int64]:
    """Return the rows of `shots` pictures of each class, in the order of the split; nested: 5 are among 10.

    Args:
        labels: Of the split: int64 `(N,)`; of other tasks `(N, T)`, and then `shots` are chosen in all.
        shots: How many; a class that has fewer keeps them all.
        seed: Of the data's split, never of a trial: every trial learns from the same ones.
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
