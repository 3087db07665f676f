"""Which coordinates of points of a cube are active, and points with the others where models see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.sampling.model.arrays import Floats
from trimtab.contract.conditions import Conditions
from trimtab.contract.search_space import Scalar, Space, usual

NEAR = 1e-9
"""Snapped coordinates of the same value differ by less: a logarithm may differ in its last digit."""


class Coordinate(Protocol):
    """A dimension as a coordinate from 0 to 1."""

    @property
    def name(self) -> str:
        """The name of the dimension."""
        ...

    def at(self, value: Scalar) -> float:
        """Return the coordinate of a value."""
        ...


@dataclass(frozen=True, slots=True)
class _Rule:
    """When a column is active: each of some others has one of a few coordinates; and its own coordinate else."""

    column: int
    needed: Sequence[tuple[int, Floats]]
    usual: float

    def holds(self, points: Floats) -> NDArray[np.bool_]:
        found = np.ones(len(points), np.bool_)
        for column, allowed in self.needed:
            distance = np.abs(points[:, column, None] - allowed)
            found &= (distance < NEAR).any(1)
        return found


class Activity:
    """The conditions of a space, by the coordinates of its points.

    Args:
        space: The search space.
        axes: Its dimensions that leave a choice, in the order of the coordinates.
    """

    def __init__(self, space: Space, axes: Sequence[Coordinate]) -> None:
        place = {one.name: column for column, one in enumerate(axes)}
        self._rules = [
            _Rule(
                place[name],
                # A dimension of one value has no coordinate, and always has that value.
                [
                    (place[other], np.array([axes[place[other]].at(one) for one in allowed]))
                    for other, allowed in needed.items()
                    if other in place
                ],
                axes[place[name]].at(usual(space[name])),
            )
            for name, needed in Conditions(space).needed.items()
            if name in place
        ]

    def __bool__(self) -> bool:
        """Whether any coordinate is conditional."""
        return bool(self._rules)

    def of(self, points: Floats) -> NDArray[np.bool_]:
        """Tell which coordinates of snapped points, shape (n, size), are active, in the same shape."""
        found = np.ones(points.shape, np.bool_)
        for rule in self._rules:
            found[:, rule.column] = rule.holds(points)
        return found

    def canonical(self, points: Floats) -> Floats:
        """Return snapped points with inactive coordinates at their usual values, so that what differs there alone is equal."""
        found = points.copy()
        for rule in self._rules:
            found[~rule.holds(points), rule.column] = rule.usual
        return found
