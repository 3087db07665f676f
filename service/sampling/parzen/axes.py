"""The dimensions of a space as columns of numbers, in the scale in which TPE has its kernels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from service.sampling.distributions import Distributions
from trimtab.contract.search_space import Scalar

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]
Range = FloatDistribution | IntDistribution


class Ranges:
    """The ranges of a space, each mapped to the interval from 0 to 1, its logarithm where it is searched so.

    A range with steps reaches half a step beyond its bounds: each of its points is the middle of a cell.

    Attributes:
        count: The number of ranges.
        continuous: The places of the ranges without steps.
        levels: The number of points of each range with steps, by its place.
    """

    def __init__(self, found: Sequence[Range]) -> None:
        self.count = len(found)
        self._low = np.array([one.low for one in found], float)
        self._high = np.array([one.high for one in found], float)
        self._step = np.array([one.step or 0.0 for one in found], float)
        self._log = np.array([one.log for one in found], bool)
        self._is_log = bool(self._log.any())
        self._stepped = np.flatnonzero(self._step)
        self.continuous = np.flatnonzero(self._step == 0)
        self._bottom = self._scaled(self._low - self._step / 2)
        self._width = self._scaled(self._high + self._step / 2) - self._bottom
        steps = (self._high - self._low)[self._stepped] / self._step[self._stepped]
        self._last = np.round(steps)
        self.levels = {
            int(place): int(last) + 1
            for place, last in zip(self._stepped, self._last, strict=True)
        }

    def shares(self, values: Numbers) -> Numbers:
        """Map values, a column for each range, to shares of their ranges."""
        found = (self._scaled(values) - self._bottom) / self._width
        return found.clip(0.0, 1.0, out=found)

    def values(self, shares: Numbers) -> Numbers:
        """Return the members of the ranges that come nearest to shares: the inverse of `shares`, with steps."""
        found = self._bottom + shares * self._width
        if self._is_log:
            found[:, self._log] = np.exp(found[:, self._log])
        if self.levels:
            some = self._stepped
            found[:, some] = self._low[some] + self._indices(found) * self._step[some]
        return found.clip(self._low, self._high, out=found)

    def indices(self, values: Numbers) -> Indices:
        """Return the index of each value of a range with steps among its points, from 0; a column for each such range."""
        return self._indices(values).astype(np.int64)

    def edges(self, place: int, indices: Indices) -> tuple[Numbers, Numbers]:
        """Return the shares at which the cells of points of one range begin and end."""
        values = self._low[place] + indices * self._step[place]
        half = self._step[place] / 2
        begin, end = values - half, values + half
        if self._log[place]:
            begin, end = np.log(begin), np.log(end)
        bottom, width = self._bottom[place], self._width[place]
        return (begin - bottom) / width, (end - bottom) / width

    def _indices(self, values: Numbers) -> Numbers:
        some = self._stepped
        found = np.round((values[:, some] - self._low[some]) / self._step[some])
        return found.clip(0.0, self._last, out=found)

    def _scaled(self, values: Numbers) -> Numbers:
        if not self._is_log:
            return values
        found = values.copy()
        found[..., self._log] = np.log(found[..., self._log])
        return found


@dataclass(frozen=True, slots=True)
class Points:
    """Points of a space, a row for each.

    Attributes:
        values: The values of the ranges, as the document gives them.
        picks: The index of each choice.
        shares: The places of the values within their ranges, from 0 to 1.
        indices: The index of each value of a range with steps, a column for each such range.
    """

    values: Numbers
    picks: Indices
    shares: Numbers
    indices: Indices


class Axes:
    """The dimensions of a space that leave a choice, as columns: ranges, and choices by their index.

    Attributes:
        names: The dimensions in the order of Optuna, by name.
        ranges: The ranges among those, in that order.
        choices: The number of choices of each of the others, in that order.
    """

    def __init__(self, distributions: Distributions) -> None:
        joint = {name: one for name, one in distributions.items() if not one.single()}
        self.names = tuple(joint)
        self._joint = joint
        self._only = {
            name: one.to_external_repr(_only_value(one))
            for name, one in distributions.items()
            if one.single()
        }
        self._order = tuple(distributions)
        self._ranges = {
            name: one
            for name, one in joint.items()
            if isinstance(one, FloatDistribution | IntDistribution)
        }
        self._categories = {
            name: one for name, one in joint.items() if isinstance(one, CategoricalDistribution)
        }
        self.ranges = Ranges(list(self._ranges.values()))
        self.choices = tuple(len(one.choices) for one in self._categories.values())

    def fits(self, values: Mapping[str, Scalar]) -> bool:
        """Tell whether a trial has a value of each dimension; it may have been made for another space."""
        return all(
            name in values and _is_number(values[name]) for name in self._ranges
        ) and all(
            name in values and values[name] in one.choices
            for name, one in self._categories.items()
        )

    def encoded(self, trials: Sequence[Mapping[str, Scalar]]) -> tuple[Numbers, Indices]:
        """Return the values of trials that fit, a row for each: of ranges as they are, of choices their indices."""
        numbers = [[cast("float", row[name]) for name in self._ranges] for row in trials]
        picks = [
            [int(one.to_internal_repr(row[name])) for name, one in self._categories.items()]
            for row in trials
        ]
        return (
            np.array(numbers, float).reshape(len(trials), len(self._ranges)),
            np.array(picks, np.int64).reshape(len(trials), len(self._categories)),
        )

    def points(self, values: Numbers, picks: Indices) -> Points:
        """Return points with what densities ask of them."""
        ranges = self.ranges
        return Points(values, picks, ranges.shares(values), ranges.indices(values))

    def decoded(self, numbers: Numbers, picks: Indices) -> dict[str, Scalar]:
        """Return the values of one trial, from its row of the ranges and its row of the choices."""
        found = dict(zip(self._ranges, numbers.tolist(), strict=True))
        found |= dict(zip(self._categories, map(float, picks.tolist()), strict=True))
        return self.external(found)

    def external(self, internal: Mapping[str, float]) -> dict[str, Scalar]:
        """Return a trial's values as the contract tells them, of all dimensions, also those that leave no choice."""
        chosen = {
            name: cast("Scalar", one.to_external_repr(internal[name]))
            for name, one in self._joint.items()
        }
        return {
            name: self._only[name] if name in self._only else chosen[name]
            for name in self._order
        }


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _only_value(distribution: BaseDistribution) -> float:
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return distribution.low
    return 0.0  # the first choice
