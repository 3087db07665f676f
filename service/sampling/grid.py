"""The cells of a space without real numbers, in their order. In grid search the trial number says which cell."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from trimtab.contract.conditions import Conditions
from trimtab.contract.search_space import (
    Choices,
    Dimension,
    FloatRange,
    IntRange,
    Scalar,
    Space,
    point,
)

Values = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Arm:
    """The points of a space that agree on all dimensions on which conditions stand.

    Attributes:
        decided: The values of these dimensions, those that are active.
        free: The other dimensions that are active, in alphabetical order of their names.
        count: The number of points; None where a range of real numbers has more than can be counted.
    """

    decided: Values
    free: Space
    count: int | None

    def cell(self, number: int) -> dict[str, Scalar]:
        """Return the point of this number."""
        values = dict(self.decided)
        for name in reversed(tuple(self.free)):
            number, index = divmod(number, _size(self.free[name]))
            values[name] = _point(self.free[name], index)
        return values

    def index(self, values: Values) -> int:
        """Return the number of a point."""
        found = 0
        for name, dimension in self.free.items():
            found = found * _size(dimension) + _index(dimension, values[name])
        return found


class Cells:
    """All points of a space, numbered; of a space with conditions, arm by arm.

    The order is row-major over the names in alphabetical order, those first on which conditions stand: the last name varies
    fastest. (Not in the order of the document, which a database's JSON type need not keep.) Ranges go from low to high,
    choices in their own order.

    Attributes:
        arms: The parts of the space that differ in which dimensions are active; one without conditions.
        count: The number of cells; None where a range of real numbers has more points than can be counted.
    """

    def __init__(self, space: Space) -> None:
        self._conditions = Conditions(space)
        self.arms = tuple(self._arms(space))
        counted = [arm.count or 0 for arm in self.arms]
        self._ends = [sum(counted[: place + 1]) for place in range(len(counted))]
        self._place = {_key(arm.decided): place for place, arm in enumerate(self.arms)}
        self.count = None if None in [arm.count for arm in self.arms] else self._ends[-1]

    @property
    def any_counted(self) -> bool:
        """Whether some part of the space has finitely many points, so that these can be told apart."""
        return self._ends[-1] > 0

    def cell(self, number: int) -> dict[str, Scalar] | None:
        """Return the values of the cell `number`, those of active dimensions, or None past the last one.

        Raises:
            ValueError: the space, or one of its arms, has a range of real numbers without a step.
        """
        if self.count is None:
            raise ValueError("a grid needs a step or choices")
        if number >= self.count:
            return None
        place = bisect_right(self._ends, number)
        return self.arms[place].cell(number - (self._ends[place - 1] if place else 0))

    def index(self, values: Values) -> int | None:
        """Return the number of the cell of a point: `cell` of it has its active values. None: its arm has no cells."""
        place = self._place.get(_key(self._decided(values)))
        if place is None or self.arms[place].count is None:
            return None
        return (self._ends[place - 1] if place else 0) + self.arms[place].index(values)

    def _decided(self, values: Values) -> dict[str, Scalar]:
        return self._conditions.active(
            {name: values[name] for name in self._conditions.deciding if name in values}
        )

    def _arms(self, space: Space) -> Iterator[Arm]:
        deciding = self._conditions.deciding
        for decided in self._decisions({name: space[name] for name in deciding}, {}):
            free = {
                name: space[name]
                for name in sorted(space)
                if name not in deciding and self._conditions.is_active(name, decided)
            }
            yield Arm(decided, free, _count(free.values()))

    def _decisions(self, left: Space, values: Values) -> Iterator[Values]:
        """Yield all values that the dimensions may have together on which conditions stand, without inactive ones."""
        name = next(
            (one for one in left if not any(other in left for other in self._needed(one))), None
        )
        if name is None:
            yield values
            return
        rest = {other: one for other, one in left.items() if other != name}
        if not self._conditions.is_active(name, values):
            yield from self._decisions(rest, values)
            return
        for index in range(_size(left[name])):
            yield from self._decisions(rest, {**values, name: _point(left[name], index)})

    def _needed(self, name: str) -> Sequence[str]:
        return tuple(self._conditions.needed.get(name, ()))


def _key(values: Values) -> tuple[tuple[str, Scalar], ...]:
    return tuple(sorted(values.items(), key=lambda item: item[0]))


def _count(dimensions: Iterable[Dimension]) -> int | None:
    dimensions = tuple(dimensions)
    return None if any(map(_is_continuous, dimensions)) else math.prod(map(_size, dimensions))


def _size(dimension: Dimension) -> int:
    match dimension:
        case Choices():
            return len(dimension.choices)
        case IntRange():
            return (dimension.high - dimension.low) // dimension.step + 1
        case FloatRange():
            return _real_size(dimension)


def _is_continuous(dimension: Dimension) -> bool:
    if not isinstance(dimension, FloatRange):
        return False
    return dimension.step is None and dimension.low < dimension.high


def _real_size(dimension: FloatRange) -> int:
    if dimension.low == dimension.high:
        return 1
    return round((dimension.high - dimension.low) / (dimension.step or 1)) + 1


def _point(dimension: Dimension, index: int) -> Scalar:
    if isinstance(dimension, Choices):
        return dimension.choices[index]
    return point(dimension, index)


def _index(dimension: Dimension, value: Scalar) -> int:
    if isinstance(dimension, Choices):
        return dimension.choices.index(value)
    if dimension.low == dimension.high:
        return 0
    return round((float(value or 0) - dimension.low) / (dimension.step or 1))
