"""TPE over a study's trials: what is likely among the good ones, and not among the others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from service.sampling.distributions import Distributions
from service.sampling.parzen.axes import Axes, Indices, Numbers, Points
from service.sampling.parzen.mixture import Mixture
from trimtab.contract.search_space import Scalar

CANDIDATES = 24
"""The number of points that are drawn from the good ones' density, of which the best is proposed."""

Values = Mapping[str, Scalar]
_NEW, _FITS, _UNFIT = 0, 1, 2
"""What is known of a trial's values: nothing; that the space has them; that they were made for another space."""


@dataclass(frozen=True, slots=True)
class Split:
    """The trials that TPE is shown, by their numbers, ascending.

    Attributes:
        good: The best of those that have ended.
        others: The rest, and all that run.
    """

    good: Indices
    others: Indices


class TPE:
    """The tree-structured Parzen estimator of one study (Bergstra et al., Algorithms for hyper-parameter optimization, 2011).

    Optuna's, to the last digits: multivariate, with the constant liar, its weights and widths of kernels; a test compares
    the densities. Optuna makes both densities anew for each proposal; these are kept, and learn what has changed.

    Not thread-safe.

    Args:
        distributions: The dimensions of the study's space, in the order of their names.
        whole: Returns a point with its inactive dimensions as models see them; None: all dimensions are active.
    """

    def __init__(
        self, distributions: Distributions, whole: Callable[[Values], Values] | None = None
    ) -> None:
        self.axes = Axes(distributions)
        self._whole = whole
        self._columns = Columns(self.axes)
        self._good, self._others = Mixture(self.axes), Mixture(self.axes)
        self._rng = RandomState(
            0
        )  # seeded anew for each proposal: to make one takes a hundred times as long

    def show(
        self, split: Split, values_of: Callable[[int], Values], in_flight: Sequence[Values] = ()
    ) -> None:
        """Take over which trials are good and which are not.

        Args:
            split: The trials.
            values_of: returns the hyperparameters of a trial; asked once for each number, since those do not change.
            in_flight: The values of proposals that no trial shows yet: like a trial that runs, each is one of the others.
        """
        self._good.show(*self._columns.of(split.good, values_of))
        numbers, shares, picks = self._columns.of(split.others, values_of)
        if in_flight:
            values, more = self.axes.encoded(in_flight)
            following = 1 + int(split.others.max(initial=-1))
            numbers = np.append(numbers, np.arange(following, following + len(in_flight)))
            shares = np.concatenate([shares, self.axes.ranges.shares(values).T], axis=1)
            picks = np.concatenate([picks, more.T], axis=1)
        self._others.show(numbers, shares, picks)

    def candidates(self, seed: int, count: int = CANDIDATES) -> Iterator[dict[str, Scalar]]:
        """Yield points drawn from the good trials' density, those first that are least likely among the others."""
        self._rng.seed(seed)
        drawn = self._good.sample(self._rng, count)
        if self._whole is not None:
            drawn = self._canonical(drawn, self._whole)
        scores = self.scores(drawn)
        for place in np.argsort(-scores, kind="stable"):
            yield self.axes.decoded(drawn.values[place], drawn.picks[place])

    def _canonical(self, drawn: Points, whole: Callable[[Values], Values]) -> Points:
        """Move points to where trials of theirs lie, before they are scored: what is inactive has its usual value."""
        rows = zip(drawn.values, drawn.picks, strict=True)
        found = [whole(self.axes.decoded(*row)) for row in rows]
        return self.axes.points(*self.axes.encoded(found))

    def scores(self, points: Points) -> Numbers:
        """Return the logarithm of how much likelier points are among the good trials: expected improvement rises with it."""
        return self._good.log_density(points) - self._others.log_density(points)


class Columns:
    """The values of a study's trials, a column for each number; filled as trials are shown."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self._states = np.zeros(0, np.int8)
        self._shares = np.empty((axes.ranges.count, 0))
        self._picks: Indices = np.empty((len(axes.choices), 0), np.int64)

    def of(
        self, numbers: Indices, values_of: Callable[[int], Values]
    ) -> tuple[Indices, Numbers, Indices]:
        """Return the numbers of those trials that fit the space, and their columns: shares of ranges, indices of choices.

        Args:
            numbers: The numbers of trials, ascending.
            values_of: returns the hyperparameters of a trial.
        """
        if numbers.size:
            self._grow(int(numbers[-1]) + 1)
            states = self._states[numbers]
            if not states.all():
                self._fill(numbers[states == _NEW], values_of)
                states = self._states[numbers]
            if states.max() == _UNFIT:
                numbers = numbers[states == _FITS]
        return numbers, self._shares[:, numbers], self._picks[:, numbers]

    def _fill(self, numbers: Indices, values_of: Callable[[int], Values]) -> None:
        found = {number: values_of(number) for number in numbers.tolist()}
        fitting = {number: one for number, one in found.items() if self._axes.fits(one)}
        values, picks = self._axes.encoded(list(fitting.values()))
        filled = list(fitting)
        self._states[numbers] = _UNFIT
        self._states[filled] = _FITS
        self._shares[:, filled] = self._axes.ranges.shares(values).T
        self._picks[:, filled] = picks.T

    def _grow(self, size: int) -> None:
        if size <= len(self._states):
            return
        more = max(size, 2 * len(self._states)) - len(self._states)
        self._states = np.pad(self._states, (0, more))
        self._shares = np.pad(self._shares, ((0, 0), (0, more)))
        self._picks = np.pad(self._picks, ((0, 0), (0, more)))
