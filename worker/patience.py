"""How long an agent waits for its runner, by a clock that only goes forward."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from trimtab.contract.leases import Failed

ASLEEP_S = 5.0
"""Woken so much later than asked for, it was this process that slept: stopped, or its machine suspended."""


@dataclass(frozen=True)
class Limits:
    """How patient an agent is, in seconds."""

    stall_s: float = 300.0
    """Without progress for so long (and ten times the slowest epoch) the runner hangs."""
    grace_s: float = 20.0
    """From the word to leave until leaving: half of it to end the epoch, half to upload its checkpoint."""

    def stall_after(self, slowest_epoch_s: float) -> float:
        """Return how long to wait for a sign of life."""
        return max(self.stall_s, 10 * slowest_epoch_s)


class Patience:
    """Knows when the runner of one attempt has kept silent for too long.

    Args:
        limits: how patient to be.
        clock: seconds that only go forward.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._moved_at: float | None = None
        self._epoch_began_at = 0.0
        self._slowest_s = 0.0
        self._deadline: float | None = None

    def begin(self) -> None:
        """The runner trains from now on."""
        self._moved_at = self._epoch_began_at = self._clock()

    def moved(self) -> None:
        """The runner has shown life."""
        self._moved_at = self._clock()

    def epoch_done(self) -> None:
        """Remember how long an epoch may take."""
        self._slowest_s = max(self._slowest_s, self._clock() - self._epoch_began_at)

    def leave_soon(self) -> None:
        """Expect the runner to let go of the trial within half of the grace."""
        if self._deadline is None:
            self._deadline = self._clock() + self._limits.grace_s / 2

    def end(self) -> None:
        """Nothing more is expected of the runner: what is left, the agent does itself."""
        self._moved_at = None

    def is_moving(self) -> bool:
        """Tell whether there is progress."""
        return self._moved_at is None or self._clock() < self._stalls_at()

    def seconds_left(self) -> float:
        """Return how long to wait before looking at `verdict`."""
        alarm = self._stalls_at() if self._deadline is None else self._deadline
        return max(0.0, min(alarm, self._stalls_at()) - self._clock())

    def overslept(self, seconds: float) -> None:
        """Take off what this process itself slept: signs of life may wait to be read."""
        if seconds >= ASLEEP_S and self._moved_at is not None:
            self._moved_at += seconds

    def verdict(self) -> Failed | None:
        """Say why to kill the runner now, if so; the kill itself is then given time."""
        if self._deadline is not None and self._clock() >= self._deadline:
            self._deadline = None
            message = "The runner did not let go of the trial within the grace."
        elif not self.is_moving():
            message = f"No progress for {self._limits.stall_after(self._slowest_s):.0f} s."
        else:
            return None
        self.moved()
        return Failed(error="stalled", message=message, retryable=True)

    def _stalls_at(self) -> float:
        moved_at = self._clock() if self._moved_at is None else self._moved_at
        return moved_at + self._limits.stall_after(self._slowest_s)
