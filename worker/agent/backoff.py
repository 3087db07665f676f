"""Exponential back-off: how long to wait before a request that failed is tried again."""

import random
from dataclasses import dataclass, field

FIRST_S = 0.5
LAST_S = 30.0


@dataclass
class Backoff:
    """Doubles from half a second to half a minute, with jitter so that many workers do not try again at once."""

    chance: random.Random = field(default_factory=random.Random)
    _ceiling: float = FIRST_S

    def next(self) -> float:
        """Return the seconds to wait now: between half of the ceiling and the ceiling, which then doubles."""
        ceiling = self._ceiling
        self._ceiling = min(2 * ceiling, LAST_S)
        return ceiling * self.chance.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again at the shortest wait, after a try that succeeded."""
        self._ceiling = FIRST_S
