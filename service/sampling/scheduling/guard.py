"""What keeps freeze-thaw from harm where the beginnings of curves mislead: half of all epochs run to their end."""

import numpy as np

from service.sampling.model.arrays import Floats, Indices
from service.sampling.scheduling.board import Board, Flags, Standing

COMMITTED_SHARE = 0.5
"""The share of all epochs that goes to trials which run to their end."""
FEWEST_DONE = 5
"""Nothing is concluded from completed trials before there are this many."""
LEAST_CORRELATION = 0.3
"""Beginnings whose rank correlation with the ends is lower than this tell nothing."""


def owes_a_commitment(board: Board, leaving: int | None, *, is_blind: bool) -> bool:
    """Tell whether too few epochs go to trials that run to their end, counting those that they still have to run.

    Args:
        board: The trials.
        leaving: The row of a trial that has just been let go; None: no trial has.
        is_blind: Whether beginnings tell nothing, so that every trial is to run to its end.
    """
    rows = np.flatnonzero(board.standing[: board.size] != Standing.GONE)
    epochs, committed = board.epochs[rows], board.committed[rows]
    goes_on = committed & (board.standing[rows] == Standing.RUNNING)
    if leaving is not None:
        goes_on &= rows != leaving
    owed = int((board.length - epochs[goes_on]).sum())
    spent, spent_to_the_end = int(epochs.sum()), int(epochs[committed].sum())
    return is_blind or spent_to_the_end + owed < COMMITTED_SHARE * (spent + owed)


def commitments(board: Board) -> int:
    """Return how many trials were chosen to run to their end: even and odd ones are chosen in different ways."""
    kept = board.committed[: board.size] & (board.standing[: board.size] != Standing.GONE)
    return int(kept.sum())


def correlation(board: Board) -> float | None:
    """Return the rank correlation of completed trials' halves with their ends (Spearman); None: they are too few."""
    done = board.where(Standing.DONE)
    if len(done) < FEWEST_DONE:
        return None
    ranks = [np.argsort(np.argsort(found[done])) for found in (board.half, board.best)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def is_blind(found: float | None) -> bool:
    """Tell whether beginnings of curves tell nothing of their ends, by `correlation`."""
    return found is not None and found < LEAST_CORRELATION


def medians(board: Board) -> dict[int, float]:
    """Return the median of the completed trials' best values by the index of each decision epoch; empty: they are too few."""
    done = board.where(Standing.DONE)
    if len(done) < FEWEST_DONE:
        return {}
    found: Floats = np.median(board.curves[done], axis=0)
    return {at: float(median) for at, median in enumerate(found)}


def hopeless(board: Board, rows: Indices, *, is_blind: bool) -> Flags:
    """Tell which trials are worse than the median of the completed ones at their last decision epoch, shape (rows,).

    The median stopping rule: Golovin et al., Google Vizier, KDD 2017, section 3.2.2.
    """
    held = medians(board)
    if is_blind or not held:
        return np.zeros(len(rows), np.bool_)
    bars = np.array([held.get(int(at), -np.inf) for at in board.reached[rows]])
    return board.best[rows] < bars
