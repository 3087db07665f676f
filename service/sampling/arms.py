"""The arms of a conditional space: a model that has seen no trial of one knows nothing of its own dimensions."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import product

from service.domain.facts import TrialFacts
from service.sampling.history import role
from trimtab.contract.conditions import Conditions
from trimtab.contract.search_space import Choices, Dimension, IntRange, Scalar, Space

WANTED = 3
"""The number of trials of each arm: after one alone `gp` stayed in the worse of two arms in 14 of 24 searches, after three in 4."""
Arm = frozenset[str]
"""The conditional dimensions that are active together."""
Values = Mapping[str, Scalar]


class Arms:
    """Which arms of a space were tried often enough. A trial that runs has tried its own; one that a machine failed has not.

    Args:
        space: The search space, with conditions or without.
        trials: The number of trials that the search has; a third of them is spent in this way at most.
    """

    def __init__(self, space: Space, trials: int) -> None:
        self._conditions = Conditions(space)
        self._examples: dict[Arm, Values] = {}
        names = self._conditions.deciding
        for values in product(*(_values(space[name]) for name in names)):
            example = dict(zip(names, values, strict=True))
            self._examples.setdefault(self._arm(example), example)
        self._wanted = min(WANTED, trials // 3 // len(self._examples))
        self._arm_of: dict[int, Arm] = {}

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        if len(self._examples) < 2:
            return
        for trial in trials:
            self._arm_of.pop(trial.number, None)
            if role(trial) is not None:
                self._arm_of[trial.number] = self._arm(trial.hyperparameters)

    def untried(self, in_flight: Iterable[Values]) -> Values | None:
        """Return the values that lead into an arm that was not tried often enough; None: there is none.

        Args:
            in_flight: The configurations of proposals that no trial shows yet.
        """
        if len(self._examples) < 2:
            return None
        tried = Counter((*self._arm_of.values(), *map(self._arm, in_flight)))
        arms = self._examples.items()
        return next((one for arm, one in arms if tried[arm] < self._wanted), None)

    def _arm(self, values: Values) -> Arm:
        needed = self._conditions.needed
        return frozenset(name for name in needed if self._conditions.is_active(name, values))


def _values(dimension: Dimension) -> Iterable[Scalar]:
    match dimension:
        case Choices():
            return dimension.choices
        case IntRange():
            return range(dimension.low, dimension.high + 1, dimension.step)
        case _:
            return ()  # no condition stands on real numbers
