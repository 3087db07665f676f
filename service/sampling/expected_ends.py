"""What a trial that was cut short would have ended with, by the curves of all: the observations of `gp`."""

from collections.abc import Iterable

import numpy as np

from service.domain.facts import TrialFacts
from service.sampling.model.arrays import Floats, Indices
from service.sampling.model.cube import Cube
from service.sampling.model.curves import Chain, Curves, decision_epochs
from service.sampling.model.finals import Finals, LastValues, Unit
from service.sampling.scheduling.board import Board, Standing
from service.sampling.scheduling.forecast import LOWEST_CURVE
from trimtab.contract.metrics import SHARES, plain
from trimtab.contract.search_space import Choices, IntRange
from trimtab.contract.studies import StudyDocument

CUT_SHORT = (int(Standing.ENDED), int(Standing.PAUSED))


def finals_of(document: StudyDocument) -> Finals:
    """Return what the trials of a study end with, as its document says how they are judged and stopped."""
    task, search = document.task, document.search
    sign = 1.0 if task.direction == "maximize" else -1.0
    last = LastValues(sign, of_shares=task.is_bounded and plain(task.metric) in SHARES)
    if search.pruner.kind == "none" or isinstance(
        document.space.get("epochs"), IntRange | Choices
    ):
        return last
    grid = decision_epochs(document.usual_epochs)
    return ExpectedEnds(last, Board(Cube(document.space), grid, task.direction))


class ExpectedEnds:
    """Takes the value of a completed trial for what it is, and of one that was cut short the end that is expected of it.

    The regressions are those of freeze-thaw (`Chain`).

    Args:
        last: The values that trials have shown.
        board: The curves, empty at first.
    """

    def __init__(self, last: LastValues, board: Board) -> None:
        self._last = last
        self._board = board
        self._found: tuple[Unit, Floats, Floats] | None = None

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        changed = tuple(trials)
        self._last.learn(changed)
        self._board.learn(changed)
        self._found = None

    def measured_on(self, rows: int | None) -> None:
        """Note the size of the validation split."""
        self._last.measured_on(rows)

    @property
    def tells_noise(self) -> bool:
        """Whether the noise of completed trials' values is known."""
        return self._last.tells_noise

    def predicted(self, numbers: Indices, unit: Unit) -> tuple[Floats, Floats]:
        """Return means and variances of the final values of these trials in `unit`."""
        mean, variance = self._last.predicted(numbers, unit)
        board = self._board
        rows = np.array([board.rows[number] for number in numbers.tolist()], np.intp)
        cut = np.isin(board.standing[rows], CUT_SHORT) & (board.reached[rows] >= 0)
        if not cut.any():
            return mean, variance
        expected, around = self._ends(unit)
        # No surer than of a last value: on real curves a model that trusted its regressions more ended lower.
        around = np.maximum(around[rows], variance)
        return np.where(cut, expected[rows], mean), np.where(cut, around, variance)

    def _ends(self, unit: Unit) -> tuple[Floats, Floats]:
        """Return what the curves say of all rows of the board, found once for what is known."""
        if self._found is None or self._found[0] != unit:
            board = self._board
            values = np.maximum(unit.of(board.curves[: board.size]), LOWEST_CURVE)
            curves = Curves(values, board.reached[: board.size], board.features[: board.size])
            self._found = (unit, *Chain.fit(curves).ends(curves))
        return self._found[1:]
