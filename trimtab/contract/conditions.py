"""Conditions of a search space: which of its dimensions are active at a point."""

from collections.abc import Iterator, Mapping
from math import prod

from trimtab.contract.faults import Fault, hint
from trimtab.contract.search_space import (
    Choices,
    Dimension,
    FloatRange,
    IntRange,
    Scalar,
    Space,
    contains,
)

MOST_COMBINATIONS = 1000
"""The most combinations of values that the dimensions may have on which conditions stand: each is a space of its own."""

Allowed = Mapping[str, tuple[Scalar, ...]]
"""The values that each of some other dimensions may have where a dimension is active."""
Dimensions = Mapping[str, Dimension | None]


class Conditions:
    """Which dimensions of a space are active, by the values of the others.

    A condition may stand on a dimension that is conditional itself; that one must be active too.

    Attributes:
        needed: The values that other dimensions must have, by the name of each conditional dimension; those that stand
            between are among them.
        deciding: The names of the dimensions on which conditions stand, in alphabetical order.

    Args:
        space: The search space, whose conditions have no fault.
    """

    def __init__(self, space: Space) -> None:
        self.needed = {name: _needed(space, name) for name, one in space.items() if one.when}
        self.deciding = tuple(
            sorted({name for found in self.needed.values() for name in found})
        )

    def __bool__(self) -> bool:
        """Whether any dimension is conditional."""
        return bool(self.needed)

    def is_active(self, name: str, values: Mapping[str, Scalar]) -> bool:
        """Tell whether a dimension is active at these values, which may be those of inactive dimensions too."""
        return all(
            other in values and values[other] in allowed
            for other, allowed in self.needed.get(name, {}).items()
        )

    def active(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return the values of the dimensions that are active: what a trial has."""
        if not self.needed:
            return dict(values)
        return {name: value for name, value in values.items() if self.is_active(name, values)}

    def faults(self, given: Mapping[str, Scalar]) -> Iterator[tuple[str, str]]:
        """Yield the names of values that a person gives and that have no use, each with what is wrong.

        Args:
            given: Some of a point's values; the others are the prior's, so that a condition must be met by what is given.
        """
        for name in given:
            missing = {
                other: allowed
                for other, allowed in self.needed.get(name, {}).items()
                if given.get(other, ...) not in allowed
            }
            if missing:
                yield (
                    name,
                    f"is active only with {told(missing)}: give that too, or leave it out",
                )


def told(allowed: Allowed) -> str:
    """Return a condition in words, such as `optimizer: sgd`."""
    parts = (
        f"{name}: {_word(values[0]) if len(values) == 1 else ' or '.join(map(_word, values))}"
        for name, values in allowed.items()
    )
    return ", ".join(parts)


def condition(dimension: Dimension) -> Allowed:
    """Return what a dimension's own condition says, each name with its values."""
    return {
        name: wanted if isinstance(wanted, tuple) else (wanted,)
        for name, wanted in (dimension.when or {}).items()
    }


def combinations(space: Space) -> int:
    """Return how many combinations of values the dimensions have on which conditions stand; inactive ones count too."""
    names = {name for dimension in space.values() for name in condition(dimension)}
    return prod(_size(space[name]) for name in names)


def faults(space: Dimensions) -> Iterator[Fault]:
    """Yield what is wrong with the conditions of a space, each at its own place below the document.

    Args:
        space: The dimensions; None in the place of one that is wrong by itself.
    """
    found = [
        fault
        for name, dimension in space.items()
        if dimension is not None
        for fault in _own_faults(space, name, dimension)
    ]
    yield from found
    readable = {name: dimension for name, dimension in space.items() if dimension is not None}
    if not found and len(readable) == len(space):
        yield from _joint_faults(readable)


def _own_faults(space: Dimensions, name: str, dimension: Dimension) -> Iterator[Fault]:
    if name == "epochs" and dimension.when:
        message = "trials are compared by their epochs, which each must have: leave `when` out"
        yield Fault(("space", name, "when"), "conditional_epochs", message)
    for other, values in condition(dimension).items():
        place = ("space", name, "when", other)
        if other not in space:
            message = f"is not a dimension of this space; {hint(other, space)}"
            yield Fault(place, "condition_on_nothing", message)
            continue
        parent = space[other]
        if isinstance(parent, FloatRange):
            message = (
                "is a range of real numbers: a condition stands on choices or whole numbers"
            )
            yield Fault(place, "condition_on_real_numbers", message)
        elif parent is not None and not all(contains(parent, value) for value in values):
            message = f"names a value that {other!r} never has"
            yield Fault(place, "condition_on_no_member", message)


def _joint_faults(space: Space) -> Iterator[Fault]:
    """Yield what is wrong with conditions that are right each by itself."""
    circles = [name for name in space if _leads_back(space, name)]
    for name in circles:
        message = "stands on itself, through the conditions of the dimensions that it names"
        yield Fault(("space", name, "when"), "condition_in_a_circle", message)
    if circles:
        return
    for name in space:
        empty = [other for other, values in _needed(space, name).items() if not values]
        if empty:
            message = f"never holds: it would need {empty[0]!r} to have two values at a time"
            yield Fault(("space", name, "when"), "condition_never_holds", message)
    if (count := combinations(space)) > MOST_COMBINATIONS:
        message = (
            f"has conditions on dimensions with {count} combinations of values, and may have "
            f"{MOST_COMBINATIONS}: let them stand on fewer values"
        )
        yield Fault(("space",), "too_many_combinations", message)


def _leads_back(space: Space, name: str) -> bool:
    seen: set[str] = set()
    ahead = list(condition(space[name]))
    while ahead:
        other = ahead.pop()
        if other == name:
            return True
        if other not in seen:
            seen.add(other)
            ahead.extend(condition(space[other]))
    return False


def _needed(space: Space, name: str) -> dict[str, tuple[Scalar, ...]]:
    """Return what a dimension needs, with what each dimension needs on which its condition stands."""
    needed: dict[str, tuple[Scalar, ...]] = {}
    met, ahead = {name}, [name]
    while ahead:
        for other, values in condition(space[ahead.pop()]).items():
            known = needed.get(other, values)
            needed[other] = tuple(value for value in known if value in values)
            if other not in met:
                met.add(other)
                ahead.append(other)
    return needed


def _size(dimension: Dimension) -> int:
    match dimension:
        case Choices():
            return len(dimension.choices)
        case IntRange():
            return (dimension.high - dimension.low) // dimension.step + 1
        case FloatRange():
            return 1


def _word(value: Scalar) -> str:
    return str(value) if isinstance(value, str) else str(value).lower().replace("none", "null")
