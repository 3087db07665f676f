"""A sampler for two objectives: it models each by a Gaussian process, and proposes what may add most to the front."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from service.domain.facts import TrialFacts
from service.sampling.gaussian import WORST, GaussianSampler, Outlook
from service.sampling.model.arrays import Floats
from service.sampling.model.candidates import BEST
from service.sampling.model.hypervolume import Predicted, front_of, log_expected_improvement
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import Scalar, Space


class ParetoSampler:
    """Expected hypervolume improvement under two independent Gaussian processes, over all trials of one study.

    The reference point is the worst value of each objective that was seen, and no worse than what the processes tell
    apart. All else is as in `GaussianSampler`: trials that run are assumed to end with their predicted means, and priors
    and the probability that a configuration is feasible weigh the improvement.

    Args:
        space: the search space.
        directions: whether more or less of each objective is better.
        prior_strength: the weight of the priors, as in `GaussianSampler`.
    """

    def __init__(
        self, space: Space, directions: tuple[Direction, Direction], prior_strength: float
    ) -> None:
        self._first = GaussianSampler(space, directions[0], prior_strength)
        self._second = GaussianSampler(space, directions[1], prior_strength)

    def hear(self, trials: Iterable[TrialFacts]) -> None:
        """Note trials that changed; the next proposal takes them over."""
        whole = [_whole(trial) for trial in trials]
        self._first.hear(whole)
        self._second.hear([replace(one, value=one.second_value) for one in whole])

    def measured_on(self, rows: int | None) -> None:
        """Do nothing: the noise of two objectives is left to their processes."""

    def propose(
        self, in_flight: Sequence[Mapping[str, Scalar]], seed: int
    ) -> dict[str, Scalar] | None:
        """Return the configuration to try next; None where too little is known for that. The arguments are `GaussianSampler`'s."""
        if self._first.leaves_no_choice:
            return self._first.propose(in_flight, seed)
        first, second = self._first.look(in_flight), self._second.look(in_flight)
        if first is None or second is None:
            return self._first.likely_feasible(seed)
        points = self._first.candidates(first, _around(first, second), seed)
        scores = self._gain(first, second, points) + self._first.weights(points)
        return self._first.values(points[np.argmax(scores)])

    def _gain(self, first: Outlook, second: Outlook, points: Floats) -> Floats:
        values = _values(first, second)
        if not len(values):
            return np.zeros(len(points))
        seen = np.stack([first.seen, second.seen], axis=1)
        reference = np.maximum(seen.min(axis=0), WORST)
        return log_expected_improvement(
            Predicted(*self._first.predicted(first, points)),
            Predicted(*self._second.predicted(second, points)),
            front_of(np.maximum(values, reference)),
            reference,
        )


def _values(first: Outlook, second: Outlook) -> Floats:
    """Return the values of feasible trials, and those that trials which run are assumed to end with, shape (n, 2)."""
    known = np.stack([first.feasible, second.feasible], axis=1)
    if not len(known):
        return known
    return np.concatenate([known, np.stack([first.assumed, second.assumed], axis=1)])


def _around(first: Outlook, second: Outlook) -> Floats:
    """Return the points to look around: those of the front, then the best of each objective."""
    found = np.stack([first.feasible, second.feasible], axis=1)
    of_front = (found[:, None] == front_of(found)).all(axis=2).any(axis=1)
    pairs = np.stack([first.around, second.around], axis=1).reshape(-1, first.around.shape[1])
    return np.concatenate([first.feasible_points[of_front], pairs])[:BEST]


def _whole(trial: TrialFacts) -> TrialFacts:
    """Return a trial as both processes see it: without a curve, which tells of one objective alone."""
    match trial.state:
        case "pruned" if trial.violation is None:
            # A person stopped it before its second objective was measured: nothing is known of both.
            return replace(trial, state="cancelled", curve=())
        case "paused":
            return replace(trial, state="running", curve=())
        case _:
            return replace(trial, curve=())
