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
class _Outlook:
    """What there is to improve on.

    Attributes:
        around: the points of the best posterior means, shape (m, size).
        best: the best value that is known or assumed, in the unit of the fit.
    """

    around: Floats
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
    """

    def __init__(self, space: Space, direction: Direction, prior_strength: float) -> None:
        sign = 1.0 if direction == "maximize" else -1.0
        self._sign = sign
        self._prior_strength = prior_strength
        self._cube = Cube(space)
        self._priors = PriorWeights(self._cube)
        self._observations = Observations(self._cube, sign)
        self._finals: Finals = LastValues(sign)
        self._feasibility = Feasibility(self._cube.groups)
        self._heard: deque[tuple[TrialFacts, ...]] = deque()
        self._fitted: _Fit | None = None

    def hear(self, trials: Iterable[TrialFacts]) -> None:
        """Note trials that changed; the next proposal takes them over."""
        self._heard.append(tuple(trials))

    def propose(
        self, in_flight: Sequence[Mapping[str, Scalar]], seed: int
    ) -> dict[str, Scalar] | None:
        """Return the configuration to try next; None where too little is known for that.

        Args:
            in_flight: the configurations of trials that were proposed and that were not heard of yet.
            seed: the seed of the random numbers.
        """
        self._take_over()
        finished = self._observations.of(COMPLETED, PRUNED, VIOLATING)
        if len(finished) < FEWEST:
            return None
        if not self._cube.size:
            return self._cube.values(())
        flying = self._points(in_flight)
        chance = np.random.default_rng(seed)
        fit = self._fit(finished)
        outlook = self._condition(fit, finished, flying)
        found = self._candidates(outlook.around, flying, chance)
        return self._cube.values(found[np.argmax(self._scores(fit, found, outlook.best))])

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

    def _condition(self, fit: _Fit, finished: Indices, flying: Floats) -> _Outlook:
        """Show the model what is known and what is assumed."""
        numbers = _best_and_newest(finished, *self._finals.predicted(finished, fit.unit))
        seen = self._seen(numbers, fit.unit)
        means = fit.process.observe(seen.features, seen.mean, seen.variance)
        running = self._observations.of(RUNNING)[-MOST:]
        flying = np.concatenate([self._observations.points[running], flying])
        assumed = fit.process.assume(self._cube.features(flying), np.full(len(flying), ASSUMED))
        points, means = np.concatenate([seen.points, flying]), np.concatenate([means, assumed])
        best = max(self._best(fit.unit), assumed.max(initial=-np.inf))
        return _Outlook(points[np.argsort(-means, kind="stable")[:BEST]], float(best))

    def _seen(self, numbers: Indices, unit: Unit) -> _Seen:
        mean, variance = self._finals.predicted(numbers, unit)
        seen = self._observations
        return _Seen(
            seen.points[numbers], seen.features[numbers], np.maximum(mean, WORST), variance
        )

    def _candidates(
        self, around: Floats, flying: Floats, chance: np.random.Generator
    ) -> Floats:
        """Return points to choose from, where points can be told apart those that were not tried, while there are any."""
        if 0 < self._cube.cells <= MOST_ENUMERATED:
            found = self._cube.every_point()
        else:
            found = candidates(self._cube, around, chance, self._priors)
        if not (self._cube.cells or self._cube.activity):
            return found
        new = ~self._observations.was_tried(found, beside=flying)
        return found[new] if new.any() else found

    def _scores(self, fit: _Fit, points: Floats, best: float) -> Floats:
        features = self._cube.features(points)
        mean, variance = fit.process.predict(features)
        improvement = np.zeros(len(points))
        if np.isfinite(best):
            improvement = log_expected_improvement(mean, np.sqrt(variance), best)
        return improvement + self._log_feasible(features) + self._log_prior(points)

    def _best(self, unit: Unit) -> float:
        """The best feasible value that is known, in the unit; an early one where nothing has completed; else -inf."""
        seen = self._observations
        completed = seen.of(COMPLETED)
        numbers = completed if len(completed) else seen.of(PRUNED)
        return float(unit.of(seen.values[numbers]).max(initial=-np.inf))

    def _log_feasible(self, features: Floats) -> Floats:
        seen = self._observations
        known = seen.of(COMPLETED, PRUNED, INFEASIBLE, VIOLATING)
        if seen.rooms_are_known:
            # What was pruned has not been measured: it says nothing about the constraints.
            known = known[seen.kinds[known] != PRUNED]
        failed = np.flatnonzero(seen.kinds[known] == INFEASIBLE)
        self._feasibility.learn(seen.features[known], failed, seen.rooms[known])
        return self._feasibility.log_probability(features)

    def _log_prior(self, points: Floats) -> Floats:
        ended = len(self._observations.of(COMPLETED, PRUNED, INFEASIBLE, VIOLATING))
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
