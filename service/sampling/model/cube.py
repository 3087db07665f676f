"""A search space as a unit cube, and what a kernel sees of its points."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from math import exp, log, prod

import numpy as np

from service.sampling.model.activity import Activity
from service.sampling.model.arrays import Floats, Indices
from trimtab.contract.search_space import (
    Choices,
    Dimension,
    FloatRange,
    IntRange,
    Scalar,
    Space,
    nearest,
    point,
)

CHOICE = 0.7
"""The coordinate of a choice's own feature: two different choices lie almost 1 apart."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension that leaves a choice, as one coordinate from 0 to 1.

    Whole numbers, steps and choices are cells of the coordinate: a point drawn evenly finds each alike. In a log range
    the coordinate is the logarithm's, and the cells of whole numbers are narrower the higher they are.

    Attributes:
        name: the name of the hyperparameter.
        dimension: its range or choices.
        cells: the number of cells of equal width; 0 for real numbers, and for whole numbers in a log range.
        low: the smallest value, or its logarithm, in the range's own unit; 0 for choices.
        high: the largest value, in the same unit; for choices the number of the last one.
        margin_low: the part of the first cell that lies below `low`, in the same unit.
        margin_high: the part of the last cell that lies above `high`, in the same unit.
    """

    name: str
    dimension: Dimension
    cells: int
    low: float
    high: float
    margin_low: float = 0.0
    margin_high: float = 0.0

    @property
    def start(self) -> float:
        """The value at coordinate 0, in the unit of `low`."""
        return self.low - self.margin_low

    @property
    def width(self) -> float:
        """The length of the coordinate, in the unit of `low`."""
        return self.high + self.margin_high - self.start

    @property
    def snaps_in_logarithm(self) -> bool:
        """Whether it is of whole numbers in a log range, whose cells differ in width."""
        return not self.cells and isinstance(self.dimension, IntRange)

    @property
    def members(self) -> int:
        """The number of values that it has; 0 for real numbers."""
        if self.snaps_in_logarithm:
            return round(exp(self.high)) - round(exp(self.low)) + 1
        return self.cells

    @property
    def centres(self) -> list[float]:
        """The coordinates of all its values; none for real numbers."""
        if self.snaps_in_logarithm:
            low, high = round(exp(self.low)), round(exp(self.high))
            return [self.at(value) for value in range(low, high + 1)]
        return [(cell + 0.5) / self.cells for cell in range(self.cells)]

    def at(self, value: Scalar) -> float:
        """Return the coordinate of a value; what lies outside the range gets its nearest end's.

        Raises:
            ValueError: the value is not a choice of the dimension.
        """
        if isinstance(self.dimension, Choices):
            return (self._choice(value) + 0.5) / self.cells
        found = float(value or 0)
        if self.cells:
            cell = round((found - self.low) / (self.dimension.step or 1))
            return (min(max(cell, 0), self.cells - 1) + 0.5) / self.cells
        if self.dimension.log:
            found = log(max(found, self.dimension.low))
        return (min(max(found, self.low), self.high) - self.start) / self.width

    def value(self, coordinate: float) -> Scalar:
        """Return the member of the dimension at a coordinate."""
        if self.cells:
            cell = min(int(coordinate * self.cells), self.cells - 1)
            if isinstance(self.dimension, Choices):
                return self.dimension.choices[cell]
            return point(self.dimension, cell)
        found = self.start + coordinate * self.width
        log_range = isinstance(self.dimension, IntRange | FloatRange) and self.dimension.log
        return nearest(self.dimension, exp(found) if log_range else found)

    def _choice(self, value: Scalar) -> int:
        choices = self.dimension.choices if isinstance(self.dimension, Choices) else ()
        if value not in choices:
            raise ValueError(f"{value!r} is not a choice of {self.name}, which has {choices}")
        return choices.index(value)


def axis(name: str, dimension: Dimension) -> Axis | None:
    """Return the coordinate of a dimension; None where it has one value only."""
    match dimension:
        case Choices():
            last = len(dimension.choices) - 1
            return Axis(name, dimension, last + 1, 0, last, 0.5, 0.5) if last else None
        case IntRange(log=True):
            low, high = log(dimension.low), log(dimension.high)
            below, above = low - log(dimension.low - 0.5), log(dimension.high + 0.5) - high
            found = Axis(name, dimension, 0, low, high, below, above)
        case IntRange() | FloatRange(step=float()):
            step = dimension.step or 0
            cells = round((dimension.high - dimension.low) / step) + 1
            half = step / 2
            found = Axis(name, dimension, cells, dimension.low, dimension.high, half, half)
        case FloatRange():
            scale = log if dimension.log else float
            found = Axis(name, dimension, 0, scale(dimension.low), scale(dimension.high))
    return found if found.high > found.low else None


class Cube:
    """The dimensions of a space that leave a choice, by name, each as a coordinate from 0 to 1.

    Attributes:
        axes: the coordinates, in the order of their names.
        size: the number of coordinates.
        width: the number of features of a point.
        groups: the coordinate of each feature, shape (width,).
        cells: the number of configurations; 0 where there are real numbers among the dimensions. With conditions it is
            more, since points are counted that differ in inactive dimensions alone.
        activity: which coordinates are active.
    """

    def __init__(self, space: Space) -> None:
        found = {name: axis(name, space[name]) for name in sorted(space)}
        self.axes = tuple(one for one in found.values() if one)
        self._constants = {
            name: _only(space[name]) for name, one in found.items() if one is None
        }
        self.size = len(self.axes)
        self.activity = Activity(space, self.axes)
        levels = [_levels(one) for one in self.axes]
        columns = [max(count, 1) for count in levels]
        self.groups: Indices = np.repeat(np.arange(self.size), columns)
        self.width = len(self.groups)
        self.cells = prod(one.members for one in self.axes)
        self._cells = np.array([one.cells for one in self.axes], dtype=float)
        self._stepped = np.flatnonzero(self._cells)
        self._logarithmic = [n for n, one in enumerate(self.axes) if one.snaps_in_logarithm]
        self._choices = np.flatnonzero(levels)
        self._hot = np.flatnonzero(np.repeat(levels, columns))
        self._level = np.concatenate(
            [np.arange(count) for count in levels if count] or [np.zeros(0)]
        )
        self._start = np.array([one.margin_low / one.width for one in self.axes])
        self._stretch = np.array([one.width / (one.high - one.low) for one in self.axes])

    @property
    def choices(self) -> Indices:
        """The coordinates that are choices, without order."""
        return self._choices

    def at(self, values: Mapping[str, Scalar]) -> Floats:
        """Return the point of a configuration, shape (size,); names beyond the space's are passed over.

        Raises:
            ValueError: a value is not a choice of its dimension.
            KeyError: a dimension has no value.
        """
        return np.array([one.at(values[one.name]) for one in self.axes])

    def values(self, coordinates: Iterable[float]) -> dict[str, Scalar]:
        """Return the configuration at a point: members of the dimensions, and the only values of the others."""
        found = zip(self.axes, coordinates, strict=True)
        return self._constants | {one.name: one.value(float(x)) for one, x in found}

    def every_point(self) -> Floats:
        """Return the points of all configurations, shape (cells, size)."""
        found = product(*(one.centres for one in self.axes))
        points = np.array(list(found)).reshape(-1, self.size)
        return np.unique(self.activity.canonical(points), axis=0) if self.activity else points

    def snapped(self, points: Floats) -> Floats:
        """Return the points, shape (n, size), moved to the centres of their cells; real numbers stay as they are.

        Inactive coordinates get their usual value.
        """
        found = np.clip(points, 0.0, 1.0)
        cells = self._cells[self._stepped]
        found[:, self._stepped] = (_cell(found[:, self._stepped], cells) + 0.5) / cells
        for column in self._logarithmic:
            found[:, column] = _whole(self.axes[column], found[:, column])
        return self.activity.canonical(found) if self.activity else found

    def features(self, points: Floats) -> Floats:
        """Return what a kernel sees of the points, shape (n, width), given the shape (n, size).

        A range goes from 0 at its lowest value to 1 at its highest; each choice is a feature of its own.
        """
        found = ((points - self._start) * self._stretch)[:, self.groups]
        columns = self.groups[self._hot]
        cells = _cell(points[:, columns], self._cells[columns])
        found[:, self._hot] = CHOICE * (cells == self._level)
        return found


def _cell(coordinates: Floats, cells: Floats) -> Floats:
    return np.minimum(np.floor(coordinates * cells), cells - 1)


def _whole(one: Axis, coordinates: Floats) -> Floats:
    """Snap coordinates of a log range to its whole numbers."""
    values = np.round(np.exp(one.start + coordinates * one.width))
    logarithms = np.clip(np.log(np.maximum(values, 1.0)), one.low, one.high)
    return (logarithms - one.start) / one.width


def _levels(one: Axis) -> int:
    return one.cells if isinstance(one.dimension, Choices) else 0


def _only(dimension: Dimension) -> Scalar:
    return dimension.choices[0] if isinstance(dimension, Choices) else dimension.low
