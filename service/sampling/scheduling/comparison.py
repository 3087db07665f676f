"""What there is to choose from at a decision of freeze-thaw, by what is known of a board."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.sampling.model.arrays import Floats, Indices
from service.sampling.model.candidates import candidates
from service.sampling.model.prior_weights import PriorWeights
from service.sampling.scheduling import guard
from service.sampling.scheduling.board import Board, Flags, Standing
from service.sampling.scheduling.forecast import Forecast, Posterior, unclipped
from service.sampling.scheduling.options import LEAST_CHANCE, Options
from service.sampling.scheduling.scheduler import Asked

TAUGHT = (Standing.PAUSED, Standing.DONE, Standing.ENDED, Standing.INFEASIBLE)
"""Trials that have taught something: the priors' weight fades with their number."""
MOST_PROMISING = 6
"""New configurations are drawn around this many of the best."""
RESTART_EPOCHS = 0.25
"""The epochs that it costs to leave a trial and to begin another, or to take it up."""

Way = Literal["gain", "end", "tested", "tpe"]
"""The ways to choose: the largest gain for the epochs, or what runs to its end: the highest expected value, a new
configuration that completed trials speak for, or TPE's proposal."""


@dataclass(frozen=True, slots=True)
class Belief:
    """Where a study's priors say that good values lie.

    Attributes:
        weights: The priors.
        strength: The weight of the logarithm of their density against that of the improvement, after one trial.
    """

    weights: PriorWeights
    strength: float


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, with what is found once for it.

    Attributes:
        asked: The question as it came.
        last: The row of the trial that has just reported; None at a claim.
        correlation: The correlation of completed trials' halves with their ends; None: they are too few.
        chance: The source of random numbers.
        belief: The study's priors and their weight; None: it has none.
    """

    asked: Asked
    last: int | None
    correlation: guard.Correlation | None
    chance: np.random.Generator
    belief: Belief | None = None

    @property
    def is_blind(self) -> bool:
        """Whether beginnings of curves tell nothing."""
        return guard.is_blind(self.correlation)


def options(board: Board, forecast: Forecast, question: Question, way: Way) -> Options | None:
    """Return what there is to choose from; None where no feasible trial has shown anything to compare by.

    Where no trial may begin, only paused ones that are worth their epochs are among it.
    """
    if not len(_known(board, way)) or np.isneginf(board.best_of_all()):
        return None
    found = _all(board, forecast, question, way)
    return found if question.asked.may_begin else found.only(_worth(board, found, question))


def _all(board: Board, forecast: Forecast, question: Question, way: Way) -> Options:
    ends = forecast.ends()
    known, believed = _known(board, way), _believed(board, question, way)
    posterior = forecast.condition(ends, known, believed, question.chance)
    points = _new(board, posterior, question)
    mean, variance = forecast.predict(board.cube.features(points))
    kept = _takes(board, posterior.rows, question, way)
    rows, expected = posterior.rows[kept], posterior.mean[kept]
    told = unclipped(ends, rows, expected)
    tried = np.concatenate([board.points[rows], points])
    return Options(
        rows=rows,
        points=points,
        mean=np.concatenate([expected, mean]),
        deviation=np.sqrt(np.concatenate([posterior.variance[kept], variance])),
        told=np.concatenate([told, mean]),
        spread=np.sqrt(np.concatenate([ends.variance[rows], variance])),
        left=_left(board, rows, len(points), question.last),
        best=forecast.best,
        belief=_belief(board, tried, question),
        feasible=_feasible(board, forecast, rows, points),
    )


def _known(board: Board, way: Way) -> Indices:
    """Return the rows that the process may see: all that have shown something, or the completed ones alone."""
    told = board.reached[: board.size] >= 0
    if way == "tested":
        told &= np.isin(board.standing[: board.size], (Standing.DONE, Standing.INFEASIBLE))
    return np.flatnonzero(told)


def _believed(board: Board, question: Question, way: Way) -> Floats:
    """Return the features of trials that run and of which the process is told nothing else."""
    running = board.where(Standing.RUNNING)
    hidden = running[(board.reached[running] < 0) | (way == "tested")]
    if question.last is not None:
        hidden = hidden[hidden != question.last]
    in_flight = board.features_of(question.asked.in_flight)
    return np.concatenate([board.features[hidden], in_flight])


def _new(board: Board, posterior: Posterior, question: Question) -> Floats:
    """Return configurations that no trial has; none where nothing may begin, or the space leaves no choice."""
    if not (question.asked.may_begin and board.cube.size):
        return board.points[:0]
    best = posterior.rows[np.argsort(-posterior.mean)[:MOST_PROMISING]]
    priors = question.belief.weights if question.belief else None
    drawn = candidates(board.cube, board.points[best], question.chance, priors)
    return drawn[board.are_new(drawn)]


def _belief(board: Board, points: Floats, question: Question) -> Floats:
    """Return what the priors add to the logarithm of an expected improvement, for each point: less as trials end."""
    if question.belief is None:
        return np.zeros(len(points))
    ended = len(board.where(*TAUGHT))
    return question.belief.weights.weigh(points, question.belief.strength, max(1, ended))


def _feasible(board: Board, forecast: Forecast, rows: Indices, points: Floats) -> Floats:
    """Return the logarithm of the probability that each is feasible; a paused trial trains, so that constraints alone count."""
    found = forecast.log_feasible(
        np.concatenate([board.features[rows], board.cube.features(points)])
    )
    if np.isnan(board.rooms[: board.size]).all():
        found[: len(rows)] = 0.0
    return found


def _takes(board: Board, rows: Indices, question: Question, way: Way) -> Flags:
    """Tell which of these rows could get the next epochs."""
    if way == "tested":
        return np.zeros(len(rows), np.bool_)
    paused = board.standing[rows] == Standing.PAUSED
    return paused if question.last is None else paused | (rows == question.last)


def _left(board: Board, rows: Indices, new: int, last: int | None) -> Floats:
    """Return the epochs to the end, and the cost of a restart beside all but the trial that is there already."""
    left = board.length - board.epochs[rows] + np.where(rows == last, 0.0, RESTART_EPOCHS)
    return np.concatenate([left, np.full(new, board.length + RESTART_EPOCHS)])


def _worth(board: Board, found: Options, question: Question) -> Indices:
    """Return the places of the trials that are worth their epochs when nothing else may begin."""
    hopeless = guard.hopeless(board, found.rows, is_blind=question.is_blind)
    return np.flatnonzero((found.chances() >= LEAST_CHANCE) & ~hopeless)
