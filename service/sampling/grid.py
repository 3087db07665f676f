"""Grid search: the trial number says which cell."""

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


def _size(dimension: Dimension) -> int:
    match dimension:
        case Choices():
            return len(dimension.choices)
        case IntRange():
            return (dimension.high - dimension.low) // dimension.step + 1
        case FloatRange():
            return _real_size(dimension)


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
