"""The trials of a study as arrays, by number; a trial that changes costs as much in a long study as in a short one."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from service.domain.facts import TrialFacts
from service.sampling.history import Role, role
from service.sampling.model.arrays import Floats, Indices, grown
from service.sampling.model.cube import Cube
from service.sampling.model.finals import last_value

UNSEEN, COMPLETED, PRUNED, INFEASIBLE, RUNNING, VIOLATING, UNTRAINED = range(7)
"""What a trial is; of the infeasible ones, those that violate a constraint have a value, or were not trained for it; the
others failed."""
_KINDS: Mapping[Role | None, int] = {
    None: UNSEEN,
    "completed": COMPLETED,
    "pruned": PRUNED,
    "infeasible": INFEASIBLE,
    "running": RUNNING,
}


class Observations:
    """What is known of the configurations of a study.

    Attributes:
        points: the points of the cube, shape (capacity, size); rows are trial numbers.
        features: the inputs of a kernel at these points, shape (capacity, width).
        values: the last values, more being better, shape (capacity,).
        rooms: the shares of their bounds by which constraints are kept, below 0 where one is violated, shape (capacity,);
            NaN where none is known.
        kinds: the roles, as the constants of this module, shape (capacity,).

    Args:
        cube: the space.
        sign: 1 where more is better, -1 where less is.
    """

    def __init__(self, cube: Cube, sign: float) -> None:
        self._cube, self._sign = cube, sign
        self.points: Floats = np.zeros((0, cube.size))
        self.features: Floats = np.zeros((0, cube.width))
        self.values: Floats = np.zeros(0)
        self.rooms: Floats = np.zeros(0)
        self.kinds: NDArray[np.int8] = np.zeros(0, np.int8)
        self._tried: set[bytes] = set()

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        latest = {trial.number: trial for trial in trials}
        self._grow(max(latest, default=-1))
        self._place([trial for number, trial in latest.items() if not self.kinds[number]])
        for number, trial in latest.items():
            self.kinds[number] = _kind(trial)
            self.rooms[number] = np.nan if trial.margin is None else -trial.margin
            self.values[number] = self._sign * last_value(trial, self._sign)

    def of(self, *kinds: int) -> Indices:
        """Return the numbers of the trials of these kinds, ascending."""
        found = self.kinds == kinds[0]
        for kind in kinds[1:]:
            found |= self.kinds == kind
        return np.flatnonzero(found)

    @property
    def rooms_are_known(self) -> bool:
        """Whether any trial has told how it keeps constraints."""
        return bool(
            np.isin(self.kinds, (VIOLATING, UNTRAINED)).any()
            or (self.kinds[~np.isnan(self.rooms)] == COMPLETED).any()
        )

    def was_tried(self, points: Floats, beside: Floats) -> NDArray[np.bool_]:
        """Tell of each snapped point, shape (n, size), whether a trial has had it; only where the space is of cells, or conditional.

        Args:
            points: the points that are asked about.
            beside: points that count as tried too, shape (m, size).
        """
        others = set(_keys(beside))
        return np.array([key in self._tried or key in others for key in _keys(points)], bool)

    def _place(self, trials: list[TrialFacts]) -> None:
        """Note where trials lie that were not seen before."""
        seen = [trial for trial in trials if role(trial)]
        if not seen:
            return
        points = np.stack([self._cube.at(trial.hyperparameters) for trial in seen])
        numbers = [trial.number for trial in seen]
        self.points[numbers], self.features[numbers] = points, self._cube.features(points)
        if self._cube.cells or self._cube.activity:
            self._tried.update(_keys(points))

    def _grow(self, number: int) -> None:
        self.points = grown(self.points, number)
        self.features = grown(self.features, number)
        self.values = grown(self.values, number)
        self.rooms = grown(self.rooms, number)
        self.kinds = grown(self.kinds, number)


def _kind(trial: TrialFacts) -> int:
    found = role(trial)
    if found != "infeasible" or trial.violation is None:
        return _KINDS[found]
    return UNTRAINED if trial.value is None else VIOLATING


def _keys(points: Floats) -> Iterator[bytes]:
    """Points as keys of a set: a logarithm may differ in its last digit."""
    return (point.tobytes() for point in np.round(points, 9))
