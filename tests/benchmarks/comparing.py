"""Whether two sets of figures differ by more than noise."""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLED = 10_000


@dataclass(frozen=True)
class Comparison:
    """Figures of ours held against others'.

    Attributes:
        difference: of the medians, ours less theirs.
        interval: its 95 % bootstrap interval (Efron, "Bootstrap methods", 1979; percentiles).
        chance_lower: the share of pairs in which ours is lower.
        p: that a share so far from a half comes about where both are alike (Mann & Whitney, 1947; two-sided, by the normal
            approximation with the correction for ties).
    """

    difference: float
    interval: tuple[float, float]
    chance_lower: float
    p: float

    @property
    def alike(self) -> bool:
        """Whether chance alone explains the difference, at the 5 % level."""
        return self.p >= 0.05


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Comparison:
    """Compare two independent samples."""
    lower = sum((a < b) + (a == b) / 2 for a in ours for b in theirs)
    chance = lower / (len(ours) * len(theirs))
    difference = statistics.median(ours) - statistics.median(theirs)
    noise = _noise(ours, theirs)
    p = math.erfc(abs(chance - 0.5) / noise / math.sqrt(2)) if noise else 1.0
    return Comparison(difference, _interval(ours, theirs), chance, p)


def _noise(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The standard error of the share of pairs, were both alike."""
    both = [*ours, *theirs]
    total, pairs = len(both), len(ours) * len(theirs)
    ties = sum(count**3 - count for count in map(both.count, set(both)))
    return math.sqrt((total + 1 - ties / (total * (total - 1))) / 12 / pairs)


def _interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    rng = random.Random(0)
    found = sorted(
        statistics.median(rng.choices(ours, k=len(ours)))
        - statistics.median(rng.choices(theirs, k=len(theirs)))
        for _ in range(RESAMPLED)
    )
    return found[int(0.025 * RESAMPLED)], found[int(0.975 * RESAMPLED)]
