"""What a trial ends with, or would: the observations that a model of configurations is made from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service.domain.facts import Curve, TrialFacts
from service.sampling.history import role
from service.sampling.model.arrays import Floats, Indices, grown

LARGEST = 1e100
"""Values beyond it count as this far away: their differences stay finite."""
OF_CHANCE = 1.0
"""The number of hits, and of misses, that a share is taken to have more: one of 100 % is not known without any noise."""
CUT_SHORT = 0.25
"""The variance, in units, of the value that a trial would have ended with, where only an early one is known."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The scale on which 0 is a usual value and 1 the best one that was known when it was made; more is better.

    Attributes:
        sign: 1 where more is better, -1 where less is.
        location: the usual value, times `sign`.
        scale: the distance from it to the best one.
    """

    sign: float
    location: float
    scale: float

    def of(self, signed: Floats) -> Floats:
        """Return values, already times `sign`, in this unit."""
        return (signed - self.location) / self.scale


def unit_of(signed: Floats, sign: float) -> Unit:
    """Return the unit of values that are already times `sign`: from their median to the best of them."""
    best, usual = float(signed.max()), float(np.median(signed))
    least = max(1e-3 * abs(best), 1e-9)
    return Unit(sign, usual, max(best - usual, least))


class Finals(Protocol):
    """A model of what trials end with, by what they have shown."""

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        ...

    def measured_on(self, rows: int | None) -> None:
        """Note the size of the validation split; None: it is not known."""
        ...

    @property
    def tells_noise(self) -> bool:
        """Whether the noise of completed trials' values is known."""
        ...

    def predicted(self, numbers: Indices, unit: Unit) -> tuple[Floats, Floats]:
        """Return means and variances of the final values of trials that completed, were pruned or are paused, in `unit`."""
        ...


class LastValues:
    """Takes the value of a completed trial for what it is, and the last one of another for an uncertain guess.

    Args:
        sign: 1 where more is better, -1 where less is.
        of_shares: Whether values are shares of the rows of the validation split, so that its size tells their noise.
    """

    def __init__(self, sign: float, *, of_shares: bool = False) -> None:
        self._sign = sign
        self._of_shares = of_shares
        self._rows: int | None = None
        self._values: Floats = np.zeros(0)
        self._variance: Floats = np.zeros(0)

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        for trial in trials:
            self._values = grown(self._values, trial.number)
            self._variance = grown(self._variance, trial.number)
            self._values[trial.number] = self._sign * last_value(trial, self._sign)
            is_over = role(trial) == "completed" or trial.violation is not None
            self._variance[trial.number] = 0.0 if is_over else CUT_SHORT

    def predicted(self, numbers: Indices, unit: Unit) -> tuple[Floats, Floats]:
        """Return the values in `unit`, and 0 or `CUT_SHORT`; no less than the noise of a share."""
        values, variance = self._values[numbers], self._variance[numbers]
        if self._rows and self.tells_noise:
            variance = np.maximum(
                variance, _of_a_share(self._sign * values, self._rows) / unit.scale**2
            )
        return unit.of(values), variance

    def measured_on(self, rows: int | None) -> None:
        """Note the size of the validation split."""
        self._rows = rows

    @property
    def tells_noise(self) -> bool:
        """Whether the noise of completed trials' values is known: of shares of known rows."""
        return self._of_shares and bool(self._rows)


def _of_a_share(share: Floats, rows: int) -> Floats:
    """Return the variance of shares of hits among this many rows drawn at random, shape (n,)."""
    found = (np.clip(share, 0.0, 1.0) * rows + OF_CHANCE) / (rows + 2 * OF_CHANCE)
    return found * (1.0 - found) / rows


def last_value(trial: TrialFacts, sign: float) -> float:
    """Return the value of a trial that has one, or its last finite intermediate value, or else the worst there is."""
    found = trial.value if trial.value is not None else _last_finite(trial.curve)
    return -sign * LARGEST if found is None else min(max(found, -LARGEST), LARGEST)


def _last_finite(curve: Curve) -> float | None:
    return next((value for _, value in reversed(curve) if value is not None), None)
