"""Spaces with finitely many points: no sampler proposes one again that was tried, as long as there are others."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Set

from service.domain.facts import TrialFacts
from service.sampling import grid
from service.sampling.history import role
from trimtab.contract.search_space import Dimension, Scalar, contains

Values = Mapping[str, Scalar]


class Untried:
    """Which cells of a space no trial has tried; every point of a space with a range of real numbers counts as untried.

    So does the point of a space that has one alone: whoever writes such a space wants it repeated. A trial that runs, waits or is paused has tried its cell, and so has one whose configuration failed. One that failed for
    another reason, or was cancelled, has told nothing about it. A person's own first trials may repeat each other.
    """

    def __init__(self, space: Mapping[str, Dimension]) -> None:
        self._space = space
        count = grid.count(space)
        self._count = None if count == 1 else count
        self._cell_of: dict[int, int] = {}
        """The cell that each trial has tried, by its number."""
        self._tried = Counter[int]()

    @property
    def is_counted(self) -> bool:
        """Whether the cells are finitely many; if not, nobody need tell what was tried."""
        return self._count is not None

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        if self._count is None:
            return
        for trial in trials:
            self._forget(trial.number)
            if role(trial) is not None and self._fits(trial.hyperparameters):
                cell = grid.index(self._space, trial.hyperparameters)
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
        if self._count is None:
            return frozenset()
        return {*self._tried, *(grid.index(self._space, values) for values in in_flight)}

    def first(self, candidates: Iterable[Values], tried: Set[int], seed: int) -> Values | None:
        """Return the first candidate that is untried; else an untried cell at random; None where there is none.

        Args:
            candidates: the points that a sampler would have, the best first; at least one.
            tried: the cells that were tried.
            seed: the seed of the random choice.
        """
        if self._count is None:
            return next(iter(candidates))
        if len(tried) >= self._count:
            return None
        for values in candidates:
            if grid.index(self._space, values) not in tried:
                return values
        return grid.cell(self._space, self._at_random(tried, seed))

    def _at_random(self, tried: Set[int], seed: int) -> int:
        """Draw one of the cells that are not among `tried`, each as likely as the others."""
        left = (self._count or 0) - len(tried)
        found = random.Random(seed).randrange(left)  # noqa: S311 - draws hyperparameters, not secrets
        for cell in sorted(tried):
            if cell > found:
                break
            found += 1
        return found
