"""Why freeze-thaw did what it did, in sentences with the numbers that it decided by."""

import numpy as np

from service.sampling.scheduling import guard
from service.sampling.scheduling.board import Board, Standing
from service.sampling.scheduling.comparison import Question, Way
from service.sampling.scheduling.forecast import Forecast
from service.sampling.scheduling.options import LEAST_CHANCE, Options
from service.sampling.scheduling.scheduler import Begin, Choice, GoOn
from trimtab.contract.reasons import Expected, Reason

RULE = "freeze_thaw"
_TO_THE_END = f"{guard.COMMITTED_SHARE:.0%} of all epochs go to trials that run to their end"


def first(number: int, of: int, until: int) -> Reason:
    """Return why one of the first trials begins."""
    text = f"Trial {number + 1} of the first {of}, which all run to epoch {until} before any goes on."
    return Reason(rule=RULE, text=text)


def nothing_known() -> Reason:
    """Return why a trial begins though all of the first ones have begun."""
    text = "No trial has come far enough yet to be compared with others."
    return Reason(rule=RULE, text=text)


def by_tpe(done: int) -> Reason:
    """Return why the next trial is one that TPE proposed."""
    text = (
        f"{_TO_THE_END}. TPE proposes this one: {_count(done, 'trial')} completed so far, and a model of completed "
        f"trials alone takes {guard.FEWEST_DONE}."
    )
    return Reason(rule=RULE, text=text)


def not_finite(epoch: int) -> Reason:
    """Return why a trial is stopped whose last value is not finite."""
    text = f"Its value at epoch {epoch} is not a finite number."
    return Reason(rule=RULE, text=text, epoch=epoch)


class Reasons:
    """Reasons of decisions that were made by a forecast of a board."""

    def __init__(self, board: Board, forecast: Forecast) -> None:
        self._board = board
        self._forecast = forecast

    def chosen(self, question: Question, found: Options, way: Way, place: int) -> Reason:
        """Return why the option at this place was chosen from all of these."""
        expected = self._expected(found, place)
        told = self._told(expected)
        others = len(found.rows) - (place < len(found.rows))
        compared = f"none of {_count(others, 'other paused trial')} and {_count(len(found.points), 'new configuration')}"
        match way:
            case "gain":
                text = f"{told} For its epochs, {compared} promises more."
            case "end":
                text = f"{_TO_THE_END}: {compared} is expected to end better. {told}"
            case _:
                text = f"{self._why_tested(question)} {told}"
        epoch = int(self._board.epochs[found.rows[place]]) if place < len(found.rows) else 0
        return Reason(rule=RULE, text=text, epoch=epoch, expected=expected)

    def needed(self, row: int, wanted: int) -> Reason:
        """Return why a trial goes on that is not worth its epochs: too few have completed."""
        text = (
            f"The study's end takes {_count(wanted, 'completed trial')}, and this one is expected to end best of those "
            "that are left."
        )
        return self._of(row, text, self._by_its_curve(row))

    def paused(
        self, row: int, question: Question, choice: Choice, found: Options | None
    ) -> Reason:
        """Return why the trial that reported is paused.

        Args:
            row: The trial's row.
            question: The question that was asked.
            choice: The decision.
            found: The options that were compared; None: there were none.
        """
        place = np.flatnonzero(found.rows == row) if found is not None else np.zeros(0, int)
        if found is None or not len(place):
            expected = self._by_its_curve(row)
        else:
            expected = self._expected(found, int(place[0]))
        why = self._why_hopeless(row, question) or self._why_passed(question, choice)
        text = f"{why} {self._told(expected)}".strip()
        return self._of(row, text, expected)

    def _why_tested(self, question: Question) -> str:
        done = _count(len(self._board.where(Standing.DONE)), "completed trial")
        found = question.correlation
        if found is None or not question.is_blind:
            return f"{_TO_THE_END}: {done} alone speak for this configuration."
        return (
            f"The first halves of {done} say little of their ends (rank correlation {found.value:.2f}, where "
            f"{found.wanted:.2f} is wanted), so that new configurations are judged by completed trials alone and run to "
            "their end."
        )

    def _why_hopeless(self, row: int, question: Question) -> str | None:
        board = self._board
        if not guard.hopeless(board, np.array([row]), is_blind=question.is_blind)[0]:
            return None
        median = board.sign * guard.medians(board)[int(board.reached[row])]
        done = _count(len(board.where(Standing.DONE)), "completed trial")
        best, epoch = board.sign * board.best[row], int(board.epochs[row])
        return f"Its best value {_number(best)} is worse than {_number(median)}, the median of {done} at epoch {epoch}."

    def _why_passed(self, question: Question, choice: Choice) -> str:
        match choice:
            case Begin(values=None):
                return "Another trial begins first, to be compared with it."
            case Begin():
                return "A new configuration goes first."
            case GoOn(number=number):
                return f"Trial {number} goes first."
            case _:
                return f"The chance that it ends as the best is below {LEAST_CHANCE:.0%}, and no other trial may begin."

    def _of(self, row: int, text: str, expected: Expected | None) -> Reason:
        epoch = int(self._board.epochs[row])
        return Reason(rule=RULE, text=text, epoch=epoch, expected=expected)

    def _expected(self, found: Options, place: int) -> Expected | None:
        return self._forecast.told(float(found.told[place]), float(found.spread[place]))

    def _by_its_curve(self, row: int) -> Expected | None:
        ends = self._forecast.as_it_stands()
        return self._forecast.told(float(ends.mean[row]), float(np.sqrt(ends.variance[row])))

    def _told(self, expected: Expected | None) -> str:
        """Return the sentence that compares an expected value with the best so far; empty where nothing is expected."""
        if expected is None:
            return ""
        best = _number(self._board.sign * self._board.best_of_all())
        value, low, high = (
            _number(one) for one in (expected.value, expected.low, expected.high)
        )
        return f"It is expected to end at {value} (95 %: {low} to {high}); the best value so far is {best}."


def _number(value: float) -> str:
    return f"{value:.4g}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
