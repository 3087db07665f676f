"""Spaces with finitely many points: no sampler proposes one again that was tried, as long as there are others."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Set

from service.domain.facts import TrialFacts
from service.sampling.grid import Cells
from service.sampling.history import role
from service.sampling.prior import value_at
from trimtab.contract.search_space import Scalar, Space, contains

Values = Mapping[str, Scalar]


class Untried:
    """Which cells of a space no trial has tried; every point counts as untried among whose active dimensions are real numbers.

    So does the point of a space that has one alone: whoever writes such a space wants it repeated. A trial that runs, waits or is paused has tried its cell, and so has one whose configuration failed. One that failed for
    another reason, or was cancelled, has told nothing about it. A person's own first trials may repeat each other.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._cells = Cells(space)
        count = self._cells.count
        self._count = None if count == 1 else count
        self.is_counted = self._cells.any_counted and count != 1
        """Whether some cells can be told apart; if not, nobody need tell what was tried."""
        self._cell_of: dict[int, int] = {}
        """The cell that each trial has tried, by its number."""
        self._tried = Counter[int]()

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        if not self.is_counted:
            return
        for trial in trials:
            self._forget(trial.number)
            if role(trial) is not None and self._fits(trial.hyperparameters):
                cell = self._cells.index(trial.hyperparameters)
                if cell is not None:
                    self._cell_of[trial.number] = cell
                    self._tried[cell] += 1

    def _fits(self, values: Values) -> bool:
        return all(
            name in values and contains(dimension, values[name])
            for name, dimension in self._space.items()
        )

    def _forget(self, number: int) -> None:
        cell = self._cell_of.pop(number, None)
        if cell is not None:
            self._tried[cell] -= 1
            if not self._tried[cell]:
                del self._tried[cell]

    def tried(self, in_flight: Iterable[Values] = ()) -> Set[int]:
        """Return the cells that were tried, and those of proposals that no trial shows yet, as they are now."""
        if not self.is_counted:
            return frozenset()
        cells = (self._cells.index(values) for values in in_flight)
        return {*self._tried, *(cell for cell in cells if cell is not None)}

    def first(self, candidates: Iterable[Values], tried: Set[int], seed: int) -> Values | None:
        """Return the first candidate that is untried; else an untried cell at random; None where there is none.

        Args:
            candidates: the points that a sampler would have, the best first; at least one.
            tried: the cells that were tried.
            seed: the seed of the random choice.
        """
        if not self.is_counted:
            return next(iter(candidates))
        if self._count is not None and len(tried) >= self._count:
            return None
        for values in candidates:
            if self._cells.index(values) not in tried:
                return values
        if self._count is None:
            return self._beyond_cells(seed)
        return self._cells.cell(self._at_random(tried, self._count, seed))

    def _beyond_cells(self, seed: int) -> Values:
        """Draw a point from a part of the space that has real numbers."""
        chance = random.Random(seed)  # noqa: S311 - draws hyperparameters, not secrets
        arm = chance.choice([arm for arm in self._cells.arms if arm.count is None])
        free = {name: value_at(one, chance.random()) for name, one in arm.free.items()}
        return {**arm.decided, **free}

    def _at_random(self, tried: Set[int], count: int, seed: int) -> int:
        """Draw one of the cells that are not among `tried`, each as likely as the others."""
        left = count - len(tried)
        found = random.Random(seed).randrange(left)  # noqa: S311 - draws hyperparameters, not secrets
        for cell in sorted(tried):
            if cell > found:
                break
            found += 1
        return found
