"""Few-shot training: the part of the train split that a trial with few labels learns from."""

import numpy as np
from numpy.typing import NDArray


def choose(
    labels: NDArray[np.generic], shots: int, *, draws: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return the rows of `shots` pictures of each class, in the order of the split; nested: 5 are among 10.

    They are those of the highest draws. Each group comes once before any comes twice, and so does each content. A
    picture more or less in the split exchanges one of them at most.

    Args:
        labels: The labels of the split: class positions, int64 `(N,)`, or `(N, targets)` for other tasks, in which
            `shots` pictures are chosen in all.
        shots: The number of pictures; a class that has fewer keeps all of them.
        draws: The numbers that the samples were dealt by, `(N, 2)`: of their groups, and of their contents
            (`splits.draw_of`). They come from the data, never from a trial, so that all trials learn from the same
            pictures.
    """
    if labels.ndim > 1:
        strata = [np.arange(len(labels))]
    else:
        strata = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    chosen = [rows[_in_order(draws[rows])[:shots]] for rows in strata]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _in_order(draws: NDArray[np.uint64]) -> NDArray[np.int64]:
    groups, contents = draws.T
    first = _by_turns(contents)
    return first[_by_turns(groups[first])]


def _by_turns(draws: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the positions of the draws, the highest first; a draw that comes again waits until all have had a turn."""
    falling = np.argsort(~draws, kind="stable")
    ordered = draws[falling]
    places = np.arange(len(ordered))
    begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    turns = places - np.maximum.accumulate(np.where(begins, places, 0))
    return falling[np.argsort(turns, kind="stable")]
