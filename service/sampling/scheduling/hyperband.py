"""Hyperband: several ladders at once, which begin at later and later rungs, in case early epochs say too little.

Li et al., Hyperband, JMLR 2018, algorithm 1, whose numbers of trials give each ladder about as many epochs; the ladders
are climbed asynchronously, as in ASHA (Li et al., MLSys 2020).
"""

from collections.abc import Sequence

from service.sampling.scheduling.halving import SuccessiveHalving
from service.sampling.scheduling.ladder import Ladder, rungs
from trimtab.contract.metrics import Direction
from trimtab.contract.schedulers import HyperbandScheduler


def hyperband(
    chosen: HyperbandScheduler, *, epochs: int, direction: Direction, wanted: int
) -> SuccessiveHalving:
    """Make the scheduler of a study.

    Args:
        chosen: the document's words.
        epochs: the number of epochs that each trial has.
        direction: whether more or less is better.
        wanted: the number of trials that have to complete.
    """
    all_rungs = rungs(epochs, chosen.first_rung, chosen.eta)
    ladders = [
        Ladder(all_rungs[first:], chosen.eta, direction) for first in range(len(all_rungs) + 1)
    ]
    turns = order(shares(len(all_rungs), chosen.eta))
    return SuccessiveHalving(
        "hyperband", ladders, lambda number: turns[number % len(turns)], wanted
    )


def shares(rungs: int, eta: int) -> tuple[int, ...]:
    """Return how many trials begin on each ladder, from the one with all rungs to the one with none.

    Hyperband's n = ceil((s_max + 1) / (s + 1) * eta^s), where s is the number of a ladder's rungs and s_max that of all.
    """
    return tuple(-(-(rungs + 1) * eta**left // (left + 1)) for left in range(rungs, -1, -1))


def order(shares: Sequence[int]) -> tuple[int, ...]:
    """Return the ladders of trials 0, 1, 2, ... until each has its share, mixed as evenly as the shares allow."""
    total = sum(shares)
    given = [0] * len(shares)
    turns: list[int] = []
    for number in range(total):
        behind = [
            share * (number + 1) - total * got for share, got in zip(shares, given, strict=True)
        ]
        ladder = behind.index(max(behind))
        given[ladder] += 1
        turns.append(ladder)
    return tuple(turns)
