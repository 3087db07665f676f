"""Guarded freeze-thaw: each free worker trains what promises most for its epochs, and half of all epochs run to an end."""

from collections.abc import Iterable

import numpy as np

from service.domain.facts import TrialFacts
from service.sampling.model.arrays import Indices
from service.sampling.model.cube import Cube
from service.sampling.model.curves import decision_epochs
from service.sampling.model.prior_weights import PriorWeights
from service.sampling.scheduling import freeze_thaw_reasons as reasons
from service.sampling.scheduling import guard
from service.sampling.scheduling.board import Board, Standing
from service.sampling.scheduling.comparison import Belief, Question, Way, options
from service.sampling.scheduling.forecast import Forecast
from service.sampling.scheduling.options import Options
from service.sampling.scheduling.scheduler import Asked, Begin, Choice, GoOn, Over, Stop, Wait
from service.sampling.scheduling.tpe_beside import TpeBeside
from trimtab.contract.reasons import Reason
from trimtab.contract.studies import StudyDocument

FIRST_TRIALS = 8
"""The number of trials that run to the first decision epoch before any are compared."""


class FreezeThaw:
    """The scheduler: it pauses each trial at its decision epochs unless that trial still promises most.

    Swersky, Snoek & Adams, Freeze-Thaw Bayesian Optimization, 2014. Its state follows from the facts of the trials, but
    for the units and the hyperparameters of its model, which a restart finds anew: a trial whose `runs_until` is None is
    committed, which is to say that it runs to its end unless it turns out to be hopeless.

    Args:
        board: The trials, empty at first.
        forecast: A model of that board.
        first: The number of trials that begin before any are compared.
        wanted: The number of trials that must have completed at the study's end.
        by_tpe: The proposals of TPE over the same trials.
        belief: The study's priors and their weight; None: it has none.
    """

    def __init__(
        self,
        board: Board,
        forecast: Forecast,
        *,
        first: int,
        wanted: int,
        by_tpe: TpeBeside,
        belief: Belief | None = None,
    ) -> None:
        self._board = board
        self._forecast = forecast
        self._reasons = reasons.Reasons(board, self._forecast)
        self._first = first
        self._wanted = wanted
        self._by_tpe = by_tpe
        self._belief = belief
        self._passed: dict[int, Reason] = {}

    @classmethod
    def of(cls, document: StudyDocument, *, wanted: int) -> "FreezeThaw":
        """Return the scheduler of a study, which knows no trials yet."""
        direction = document.task.direction
        grid = decision_epochs(document.usual_epochs)
        board = Board(Cube(document.space), grid, direction)
        weights = PriorWeights(board.cube)
        bounds = (0.0, 1.0) if document.task.is_bounded else (-np.inf, np.inf)
        return cls(
            board,
            Forecast(board, bounds),
            first=max(FIRST_TRIALS, document.numbered_trials),
            wanted=wanted,
            by_tpe=TpeBeside(document.space, direction),
            belief=Belief(weights, document.search.prior_strength) if weights else None,
        )

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        changed = tuple(trials)
        self._board.learn(changed)
        self._by_tpe.learn(changed)

    def decides_at(self, epochs: int) -> bool:
        """Tell whether trials are decided on when they have this many epochs, also those that run to their end."""
        return epochs in self._board.grid[:-1]

    def decide(self, asked: Asked) -> Choice:
        """Return what a free worker is to do."""
        board = self._board
        last = None if asked.last is None else board.rows[asked.last]
        chance = np.random.default_rng(asked.seed)
        question = Question(asked, last, guard.correlation(board), chance, self._belief)
        if last is None:
            return self._next(question)[0]
        if decided := self._without_comparing(last, question):
            return decided
        choice, compared = self._next(question)
        if not (isinstance(choice, GoOn) and choice.number == asked.last):
            number = int(board.numbers[last])
            self._passed = {number: self._reasons.paused(last, question, choice, compared)}
        return choice

    def reason_to_pause(self, number: int) -> Reason:
        """Return why the trial that `decide` has just passed over is paused, with the value that is expected at its end."""
        return self._passed[number]

    def _without_comparing(self, last: int, question: Question) -> Choice | None:
        """Return what becomes of the trial that reported where nothing else is looked at."""
        board = self._board
        epochs, number = int(board.epochs[last]), int(board.numbers[last])
        if not board.is_finite[last]:
            return Stop(reasons.not_finite(epochs))
        if not self.decides_at(epochs):
            return GoOn(number, None if board.committed[last] else board.next_epoch(last))
        if board.committed[last] and not self._is_hopeless(last, question):
            return GoOn(number, None)
        return None

    def _is_hopeless(self, row: int, question: Question) -> bool:
        rows = np.array([row])
        return bool(guard.hopeless(self._board, rows, is_blind=question.is_blind)[0])

    def _next(self, question: Question) -> tuple[Choice, Options | None]:
        """Return what is to be done, and what it was chosen from."""
        asked, until = question.asked, self._board.grid[0]
        if asked.may_begin and asked.next_number < self._first:
            why = reasons.first(asked.next_number, self._first, until)
            return Begin(until, reason=why), None
        way = self._way(question)
        if way == "tpe":
            return self._begin_by_tpe(asked), None
        found = options(self._board, self._forecast, question, way)
        if found is not None and len(found.mean):
            return self._chosen(question, found, way), found
        if asked.may_begin:
            return Begin(until, reason=reasons.nothing_known()), None
        return self._at_the_end(question), found

    def _way(self, question: Question) -> Way:
        board, is_blind = self._board, question.is_blind
        if not guard.owes_a_commitment(board, question.last, is_blind=is_blind):
            return "gain"
        if not question.asked.may_begin:
            return "end"
        if is_blind:
            return "tested"
        if guard.commitments(board) % 2 == 0:
            return "end"
        return "tpe" if len(board.where(Standing.DONE)) < guard.FEWEST_DONE else "tested"

    def _begin_by_tpe(self, asked: Asked) -> Begin:
        values = self._by_tpe.propose(asked.next_number, asked.in_flight, asked.seed)
        why = reasons.by_tpe(len(self._board.where(Standing.DONE)))
        return Begin(None, values, "tpe", why)

    def _chosen(self, question: Question, found: Options, way: Way) -> Choice:
        """Return the best of what there is to choose from, by the way in which it is chosen."""
        scores = {"gain": found.gains, "end": found.ends, "tested": found.improvements}
        place = int(np.argmax(scores[way]()))
        why = self._reasons.chosen(question, found, way, place)
        if place >= len(found.rows):
            values = self._board.cube.values(found.points[place - len(found.rows)])
            return Begin(self._board.grid[0] if way == "gain" else None, values, "gp", why)
        row = int(found.rows[place])
        until = self._board.next_epoch(row) if way == "gain" else None
        return GoOn(int(self._board.numbers[row]), until, why)

    def _at_the_end(self, question: Question) -> Choice:
        """Return what is left to do when nothing may begin and no paused trial is worth its epochs."""
        board = self._board
        running = board.where(Standing.RUNNING)
        running = running[running != (-1 if question.last is None else question.last)]
        if not board.committed[running].all():
            return Wait()  # what these come to may change which one is the best of the others
        completes = len(board.where(Standing.DONE)) + len(running)
        paused = board.where(Standing.PAUSED)
        if question.last is not None:
            paused = np.append(paused, question.last)
        if completes < self._wanted and len(paused):
            return self._run_the_best_to_its_end(paused)
        return Wait() if len(running) else Over()

    def _run_the_best_to_its_end(self, rows: Indices) -> GoOn:
        ends = self._forecast.as_it_stands().mean[rows]
        row = int(rows[np.argmax(np.where(self._board.reached[rows] < 0, -np.inf, ends))])
        why = self._reasons.needed(row, self._wanted)
        return GoOn(int(self._board.numbers[row]), None, why)
