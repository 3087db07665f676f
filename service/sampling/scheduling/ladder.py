"""A ladder of rungs: the numbers of epochs at which trials are held against each other, and who stands on each."""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.domain.facts import Curve, TrialFacts
from trimtab.contract.metrics import Direction

FIRST_RUNG_SHARE = 18
"""The first rung is at this part of a trial's epochs where the document leaves it open: earlier values tell too little."""

Rank = tuple[float, int]
"""A trial's best value, in such a sign that less is better, and its number; the lowest is the best."""


def rungs(epochs: int, first_rung: int | None, eta: int) -> tuple[int, ...]:
    """Return the numbers of epochs of the rungs below the end of a trial: each `eta` times the one before."""
    rung = max(1, math.ceil(epochs / FIRST_RUNG_SHARE)) if first_rung is None else first_rung
    found: list[int] = []
    while rung < epochs:
        found.append(rung)
        rung *= eta
    return tuple(found)


def epochs_done(trial: TrialFacts) -> int:
    """Return how many epochs a trial has reported."""
    return trial.curve[-1][0] + 1 if trial.curve else 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a trial stands on its rung.

    Attributes:
        number: the trial's number.
        epochs: the rung's number of epochs.
        place: the trial's place among all that reached the rung, from 1.
        reached: the number of trials that reached the rung.
        goes_on: the number of trials that may go on from the rung to the next one.
        value: the trial's best value up to the rung; None where none was finite.
        cut: the worst best value that still goes on; None where nobody goes on, or it is not finite.
        following: the number of epochs of the next rung; None at the last one.
    """

    number: int
    epochs: int
    place: int
    reached: int
    goes_on: int
    value: float | None
    cut: float | None
    following: int | None

    @property
    def is_promotable(self) -> bool:
        """Whether the trial is among the best that may go on."""
        return self.place <= self.goes_on


class Ladder:
    """The trials that climb the same rungs.

    A trial stands on the highest rung that its epochs reach, and belongs to all rungs below too. On each rung it is worth
    the best value that it had by then: later epochs are compared on later rungs.

    Args:
        rungs: the numbers of epochs of the rungs, ascending.
        eta: the number of trials that reach a rung for each one that goes on from there.
        direction: whether more or less is better.
    """

    def __init__(self, rungs: Sequence[int], eta: int, direction: Direction) -> None:
        self.rungs = tuple(rungs)
        self._eta = eta
        self._sign = -1.0 if direction == "maximize" else 1.0
        self._reached: list[list[Rank]] = [[] for _ in self.rungs]
        self._waiting: list[list[Rank]] = [[] for _ in self.rungs]

    def put(self, trial: TrialFacts, *, waits: bool) -> None:
        """Note a trial that may count; `waits`: the search may take it up again."""
        self._change(trial, waits, insort)

    def take(self, trial: TrialFacts, *, waits: bool) -> None:
        """Forget a trial that was put as it is here."""
        self._change(trial, waits, _remove)

    def promotable(self) -> Standing | None:
        """Return the best waiting trial of the highest rung from which one may go on."""
        for rung in reversed(range(len(self.rungs))):
            if self._waiting[rung]:
                best = self._standing(rung, self._waiting[rung][0])
                if best.is_promotable:
                    return best
        return None

    def best_waiting(self) -> Standing | None:
        """Return the best of the trials that wait on the highest rung where any do."""
        for rung in reversed(range(len(self.rungs))):
            if self._waiting[rung]:
                return self._standing(rung, self._waiting[rung][0])
        return None

    def standing_of(self, trial: TrialFacts) -> Standing | None:
        """Return how a trial stands that was put; None below the first rung."""
        rung = bisect_right(self.rungs, epochs_done(trial)) - 1
        return None if rung < 0 else self._standing(rung, self._rank(trial, rung))

    def _standing(self, rung: int, rank: Rank) -> Standing:
        reached = self._reached[rung]
        goes_on = len(reached) // self._eta
        return Standing(
            number=rank[1],
            epochs=self.rungs[rung],
            place=bisect_left(reached, rank) + 1,
            reached=len(reached),
            goes_on=goes_on,
            value=self._value(rank),
            cut=self._value(reached[goes_on - 1]) if goes_on else None,
            following=self.rungs[rung + 1] if rung + 1 < len(self.rungs) else None,
        )

    def _change(
        self, trial: TrialFacts, waits: bool, change: Callable[[list[Rank], Rank], None]
    ) -> None:
        highest = bisect_right(self.rungs, epochs_done(trial)) - 1
        if trial.state == "completed":
            # One that ended early, by its own early stopping, needs no further epochs to be compared.
            highest = len(self.rungs) - 1
        for rung in range(highest + 1):
            change(self._reached[rung], self._rank(trial, rung))
        if waits and highest >= 0:
            change(self._waiting[highest], self._rank(trial, highest))

    def _rank(self, trial: TrialFacts, rung: int) -> Rank:
        return _best(trial.curve, self.rungs[rung], self._sign), trial.number

    def _value(self, rank: Rank) -> float | None:
        return self._sign * rank[0] if math.isfinite(rank[0]) else None


def _best(curve: Curve, epochs: int, sign: float) -> float:
    values = (sign * value for step, value in curve if step < epochs and value is not None)
    return min(values, default=math.inf)


def _remove(ranks: list[Rank], rank: Rank) -> None:
    del ranks[bisect_left(ranks, rank)]
