"""Asynchronous successive halving on one ladder: all trials begin at its first rung."""

from service.sampling.scheduling.halving import SuccessiveHalving
from service.sampling.scheduling.ladder import Ladder, rungs
from trimtab.contract.metrics import Direction
from trimtab.contract.schedulers import AshaScheduler


def asha(
    chosen: AshaScheduler, *, epochs: int, direction: Direction, wanted: int
) -> SuccessiveHalving:
    """Make the scheduler of a study.

    Args:
        chosen: the document's words.
        epochs: the number of epochs that each trial has.
        direction: whether more or less is better.
        wanted: the number of trials that have to complete.
    """
    ladder = Ladder(rungs(epochs, chosen.first_rung, chosen.eta), chosen.eta, direction)
    return SuccessiveHalving("asha", [ladder], lambda _: 0, wanted)
