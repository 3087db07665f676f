"""The cells of a space without real numbers, in their order. In grid search the trial number says which cell."""

import math
from collections.abc import Mapping

from trimtab.contract.search_space import (
    Choices,
    Dimension,
    FloatRange,
    IntRange,
    Scalar,
    point,
)


def cell(space: Mapping[str, Dimension], number: int) -> dict[str, Scalar] | None:
    """Return the values of the cell `number`, or None past the last one.

    The order is row-major over the names in alphabetical order: the last name varies fastest. (Not in the
    order of the document, which a database's JSON type need not keep.) Ranges go from low to high, choices
    in their own order.

    Raises:
        ValueError: a range of real numbers has neither a step nor a single point.
    """
    values: dict[str, Scalar] = {}
    for name in sorted(space, reverse=True):
        size = _size(space[name])
        number, index = divmod(number, size)
        values[name] = _point(space[name], index)
    return None if number else values


def count(space: Mapping[str, Dimension]) -> int | None:
    """Return the number of cells; None where a range of real numbers has more points than can be counted."""
    if any(_is_continuous(dimension) for dimension in space.values()):
        return None
    return math.prod(map(_size, space.values()))


def index(space: Mapping[str, Dimension], values: Mapping[str, Scalar]) -> int:
    """Return the number of the cell in which a point of the space lies: `cell` of it has these values."""
    found = 0
    for name in sorted(space):
        found = found * _size(space[name]) + _index(space[name], values[name])
    return found


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
    if dimension.step is None:
        raise ValueError("a grid needs a step or choices")
    return round((dimension.high - dimension.low) / dimension.step) + 1


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
