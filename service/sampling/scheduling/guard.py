"""What keeps freeze-thaw from harm where the beginnings of curves mislead: half of all epochs run to their end."""

from math import sqrt
from typing import NamedTuple

import numpy as np

from service.sampling.model.arrays import Floats, Indices
from service.sampling.scheduling.board import Board, Flags, Standing

COMMITTED_SHARE = 0.5
"""The share of all epochs that goes to trials which run to their end."""
FEWEST_DONE = 5
"""Nothing is concluded from completed trials before there are this many."""
LEAST_CORRELATION = 0.3
"""Beginnings whose rank correlation with the ends is lower than this tell nothing, however many have completed."""
DOUBT = 0.7
"""This much more, over the square root of their number, is wanted of few: by chance alone five reach 0.3 in three of ten cases."""


class Correlation(NamedTuple):
    """What the beginnings of completed trials tell of their ends.

    Attributes:
        value: The rank correlation (Spearman) of the best values of the first halves with the last values. Best values of
            all epochs would be no measure: those of a curve that falls later are its first half's.
        done: The number of completed trials that it was found from.
    """

    value: float
    done: int

    @property
    def wanted(self) -> float:
        """The least correlation that is taken for more than chance."""
        return LEAST_CORRELATION + DOUBT / sqrt(self.done)


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


def correlation(board: Board) -> Correlation | None:
    """Return what the halves of completed trials tell of their ends; None: they are too few."""
    done = board.where(Standing.DONE)
    if len(done) < FEWEST_DONE:
        return None
    ranks = [np.argsort(np.argsort(found[done])) for found in (board.half, board.last)]
    return Correlation(float(np.corrcoef(ranks[0], ranks[1])[0, 1]), len(done))


def is_blind(found: Correlation | None) -> bool:
    """Tell whether beginnings of curves are not shown to tell anything of their ends, by `correlation`."""
    return found is not None and found.value < found.wanted


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
