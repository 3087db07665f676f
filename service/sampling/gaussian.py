"""A sampler that models what configurations are worth by a Gaussian process, and proposes where improvement is expected."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.domain.facts import TrialFacts
from service.sampling.model.arrays import Floats, Indices
from service.sampling.model.candidates import BEST, candidates
from service.sampling.model.cube import Cube
from service.sampling.model.expected_improvement import log_expected_improvement
from service.sampling.model.feasibility import Feasibility
from service.sampling.model.finals import Finals, LastValues, Unit, unit_of
from service.sampling.model.gaussian_process import GaussianProcess, fitted_at
from service.sampling.model.observations import (
    COMPLETED,
    INFEASIBLE,
    PRUNED,
    RUNNING,
    UNTRAINED,
    VIOLATING,
    Observations,
)
from service.sampling.model.prior_weights import PriorWeights
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import Scalar, Space

FEWEST = 4
"""So many trials must have completed or been pruned before the model proposes."""
MOST = 200
"""How many trials the model is conditioned on: three quarters of these are the best, the others the newest."""
MOST_FITTED = 150
"""How many trials hyperparameters are fitted to: half of these are the best, the others are drawn."""
WORST = -1.5
"""Values below it count as it: how bad the bad ones are says little about the good ones."""
ASSUMED = 0.1
"""The variance of the values that trials which run are assumed to end with: their predicted means."""
HOPED = 0.3
"""The best ones are those of the highest mean with so many standard deviations on top."""
DRAWN, LIKELY = 100, np.log(0.5)
"""This many points are drawn, and the first one is taken whose logarithm of the probability to be feasible is at least this."""
MOST_ENUMERATED = 1000
"""A space of so few configurations is looked at as a whole."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """Hyperparameters and a unit, and what they were made from."""

    made_from: bytes
    unit: Unit
    process: GaussianProcess


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the model is conditioned on: points and features, means and variances in the unit of the fit."""

    points: Floats
    features: Floats
    mean: Floats
    variance: Floats


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known and assumed, and so what there is to improve on; values are in the unit of the fit.

    Attributes:
        fit: the hyperparameters and the unit.
        around: the points of the best posterior means, shape (m, size).
        flying: the points of trials that run or are about to, shape (f, size).
        assumed: the values that these are assumed to end with, shape (f,).
        seen: the values of all trials that have one, shape (s,).
        feasible: those of completed trials that keep the constraints, shape (c,).
        feasible_points: the points of these, shape (c, size).
        best: the best feasible value; -inf: there is none.
    """

    fit: _Fit
    around: Floats
    flying: Floats
    assumed: Floats
    seen: Floats
    feasible: Floats
    feasible_points: Floats
    best: float


class GaussianSampler:
    """Expected improvement under a Gaussian process, over all trials of one study.

    Trials that run, and proposals in flight, are assumed to end with their predicted mean. The probability that a
    configuration can be trained and keeps the study's constraints weighs its improvement, which is over the best feasible
    trial (Gardner et al., Bayesian Optimization with Inequality Constraints, ICML 2014). So do the priors of the space, with
    a weight that fades as trials end (Hvarfner et al., piBO, ICLR 2022).

    A proposal depends on the trials, what is in flight and the seed alone. `hear` may be called by any thread; `propose`
    by one at a time.

    Args:
        space: the search space.
        direction: whether more or less is better.
        prior_strength: the weight of the logarithm of the prior's density, against that of the improvement, after one trial.
        finals: the model of the values that trials end with; None: their last values.
    """

    def __init__(
        self,
        space: Space,
        direction: Direction,
        prior_strength: float,
        finals: Finals | None = None,
    ) -> None:
        sign = 1.0 if direction == "maximize" else -1.0
        self._sign = sign
        self._prior_strength = prior_strength
        self._cube = Cube(space)
        self._priors = PriorWeights(self._cube)
        self._observations = Observations(self._cube, sign)
        self._finals: Finals = LastValues(sign) if finals is None else finals
        self._feasibility = Feasibility(self._cube.groups)
        self._heard: deque[tuple[TrialFacts, ...]] = deque()
        self._fitted: _Fit | None = None

    def hear(self, trials: Iterable[TrialFacts]) -> None:
        """Note trials that changed; the next proposal takes them over."""
        self._heard.append(tuple(trials))

    def measured_on(self, rows: int | None) -> None:
        """Note the size of the validation split, by which the noise of values is judged."""
        self._finals.measured_on(rows)

    def propose(
        self, in_flight: Sequence[Mapping[str, Scalar]], seed: int
    ) -> dict[str, Scalar] | None:
        """Return the configuration to try next; None where too little is known for that.

        Args:
            in_flight: the configurations of trials that were proposed and that were not heard of yet.
            seed: the seed of the random numbers.
        """
        if self.leaves_no_choice:
            return self.values(np.zeros(0)) if len(self._finished()) >= FEWEST else None
        outlook = self.look(in_flight)
        if outlook is None:
            return self.likely_feasible(seed)
        found = self.candidates(outlook, outlook.around, seed)
        return self.values(found[np.argmax(self._scores(outlook, found))])

    @property
    def leaves_no_choice(self) -> bool:
        """Whether the space is one configuration."""
        return not self._cube.size

    def look(self, in_flight: Sequence[Mapping[str, Scalar]]) -> Outlook | None:
        """Take over what was heard, and return what is known and assumed now; None where that is too little.

        Args:
            in_flight: the configurations of trials that were proposed and that were not heard of yet.
        """
        finished = self._finished()
        if len(finished) < FEWEST:
            return None
        return self._condition(self._fit(finished), finished, self._points(in_flight))

    def values(self, point: Floats) -> dict[str, Scalar]:
        """Return the configuration of a point, shape (size,)."""
        return self._cube.values(point)

    def predicted(self, outlook: Outlook, points: Floats) -> tuple[Floats, Floats]:
        """Return means and standard deviations of the values of points in the unit of the fit, shape (n,) each."""
        mean, variance = outlook.fit.process.predict(self._cube.features(points))
        return mean, np.sqrt(variance)

    def weights(self, points: Floats) -> Floats:
        """Return what weighs an improvement's logarithm: feasibility and priors, shape (n,)."""
        return self._log_feasible(self._cube.features(points)) + self._log_prior(points)

    def likely_feasible(self, seed: int) -> dict[str, Scalar] | None:
        """Return a configuration at random that is likely to be feasible; None where no trial was left untrained.

        Such trials have no value to model: where they take much of the space, drawing on would waste most of the budget.
        """
        if not len(self._observations.of(UNTRAINED)):
            return None
        drawn = np.random.default_rng(seed).random((DRAWN, self._cube.size))
        points = self._cube.snapped(self._priors.at(drawn) if self._priors else drawn)
        likely = self._log_feasible(self._cube.features(points))
        good = np.flatnonzero(likely >= LIKELY)
        return self.values(points[good[0] if len(good) else np.argmax(likely)])

    def _finished(self) -> Indices:
        """Take over what was heard, and return the numbers of the trials that have a value."""
        self._take_over()
        return self._observations.of(COMPLETED, PRUNED, VIOLATING)

    def _take_over(self) -> None:
        while self._heard:
            trials = self._heard.popleft()
            self._observations.learn(trials)
            self._finals.learn(trials)

    def _points(self, configurations: Sequence[Mapping[str, Scalar]]) -> Floats:
        found = [self._cube.at(values) for values in configurations]
        return np.array(found).reshape(-1, self._cube.size)

    def _fit(self, finished: Indices) -> _Fit:
        """Return hyperparameters and a unit that are renewed whenever a fifth more is known."""
        first = finished[: fitted_at(len(finished))]
        seen = self._observations
        kinds, values = seen.kinds[first], seen.values[first]
        made_from = first.tobytes() + kinds.tobytes() + values.tobytes()
        if self._fitted is None or self._fitted.made_from != made_from:
            completed = values[(kinds == COMPLETED) | (kinds == VIOLATING)]
            unit = unit_of(completed if len(completed) >= FEWEST else values, self._sign)
            process = GaussianProcess(self._cube.groups)
            shown = self._seen(_some(first, *self._finals.predicted(first, unit)), unit)
            process.fit(shown.features, shown.mean, shown.variance)
            self._fitted = _Fit(made_from, unit, process)
        return self._fitted

    def _condition(self, fit: _Fit, finished: Indices, flying: Floats) -> Outlook:
        """Show the model what is known and what is assumed."""
        numbers = _best_and_newest(finished, *self._finals.predicted(finished, fit.unit))
        seen = self._seen(numbers, fit.unit)
        means = fit.process.observe(seen.features, seen.mean, seen.variance)
        best = self._best(fit.unit, means[self._observations.kinds[numbers] == COMPLETED])
        running = self._observations.of(RUNNING)[-MOST:]
        flying = np.concatenate([self._observations.points[running], flying])
        assumed = fit.process.assume(self._cube.features(flying), np.full(len(flying), ASSUMED))
        points, means = np.concatenate([seen.points, flying]), np.concatenate([means, assumed])
        completed = self._observations.of(COMPLETED)
        return Outlook(
            fit,
            points[np.argsort(-means, kind="stable")[:BEST]],
            flying,
            assumed,
            fit.unit.of(self._observations.values[finished]),
            fit.unit.of(self._observations.values[completed]),
            self._observations.points[completed],
            best,
        )

    def _seen(self, numbers: Indices, unit: Unit) -> _Seen:
        mean, variance = self._finals.predicted(numbers, unit)
        seen = self._observations
        return _Seen(
            seen.points[numbers], seen.features[numbers], np.maximum(mean, WORST), variance
        )

    def candidates(self, outlook: Outlook, around: Floats, seed: int) -> Floats:
        """Return points to choose from, shape (n, size): where points can be told apart those that were not tried, while there are any.

        Args:
            outlook: the values that are known and assumed.
            around: the points to look around, shape (m, size), m at most `candidates.BEST`.
            seed: the seed of the random numbers.
        """
        if 0 < self._cube.cells <= MOST_ENUMERATED:
            found = self._cube.every_point()
        else:
            found = candidates(self._cube, around, np.random.default_rng(seed), self._priors)
        if not (self._cube.cells or self._cube.activity):
            return found
        new = ~self._observations.was_tried(found, beside=outlook.flying)
        return found[new] if new.any() else found

    def _scores(self, outlook: Outlook, points: Floats) -> Floats:
        best = max(outlook.best, outlook.assumed.max(initial=-np.inf))
        if not np.isfinite(best):
            return self.weights(points)
        mean, deviation = self.predicted(outlook, points)
        return log_expected_improvement(mean, deviation, best) + self.weights(points)

    def _best(self, unit: Unit, means: Floats) -> float:
        """The best feasible value, in the unit; an early one where nothing has completed; else -inf.

        Where the noise of values is known, the best of what is left of completed ones without it: the luckiest is no mark.

        Args:
            unit: the unit.
            means: the posterior means of completed trials, shape (c,).
        """
        if len(means) and self._finals.tells_noise:
            return float(means.max())
        seen = self._observations
        completed = seen.of(COMPLETED)
        numbers = completed if len(completed) else seen.of(PRUNED)
        return float(unit.of(seen.values[numbers]).max(initial=-np.inf))

    def _log_feasible(self, features: Floats) -> Floats:
        seen = self._observations
        known = seen.of(COMPLETED, PRUNED, INFEASIBLE, VIOLATING, UNTRAINED)
        if seen.rooms_are_known:
            # What was pruned has not been measured: it says nothing about the constraints.
            known = known[seen.kinds[known] != PRUNED]
        failed = np.flatnonzero(seen.kinds[known] == INFEASIBLE)
        self._feasibility.learn(seen.features[known], failed, seen.rooms[known])
        return self._feasibility.log_probability(features)

    def _log_prior(self, points: Floats) -> Floats:
        ended = len(self._observations.of(COMPLETED, PRUNED, INFEASIBLE, VIOLATING, UNTRAINED))
        return self._priors.weigh(points, self._prior_strength, ended)


def _best_and_newest(numbers: Indices, mean: Floats, variance: Floats) -> Indices:
    """Return at most `MOST` trials, ascending: three quarters by what may be hoped of each, the others the newest."""
    if len(numbers) <= MOST:
        return numbers
    ranked = np.argsort(-(mean + HOPED * np.sqrt(variance)), kind="stable")
    best, others = np.split(numbers[ranked], [MOST * 3 // 4])
    return np.sort(np.concatenate([best, np.sort(others)[len(best) - MOST :]]))


def _some(numbers: Indices, mean: Floats, variance: Floats) -> Indices:
    """Return at most `MOST_FITTED` trials: half of these by what may be hoped of each, the others at random."""
    if len(numbers) <= MOST_FITTED:
        return numbers
    ranked = np.argsort(-(mean + HOPED * np.sqrt(variance)), kind="stable")
    best, others = np.split(numbers[ranked], [MOST_FITTED // 2])
    chance = np.random.default_rng(len(numbers))
    return np.sort(np.concatenate([best, chance.choice(others, len(best), replace=False)]))
