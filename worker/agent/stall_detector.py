"""How long an agent waits for its runner, by a clock that only goes forward."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from trimtab.contract.leases import Failed

ASLEEP_S = 5.0
"""Woken so much later than asked for, it was this process that slept: stopped, or its machine suspended."""


@dataclass(frozen=True)
class Timeouts:
    """How patient an agent is, in seconds."""

    stall_s: float = 300.0
    """Without progress for so long (and ten times the slowest epoch) the runner hangs."""
    grace_s: float = 20.0
    """From the word to leave until leaving: half of it to end the epoch, half to upload its checkpoint."""

    def stall_after(self, slowest_epoch_s: float) -> float:
        """Return how long to wait for a sign of life."""
        return max(self.stall_s, 10 * slowest_epoch_s)


class BusyTime:
    """For how long in all the runner was kept waiting by a trial whose thread was busy with something else.

    Trials that are trained together wait for each other's verdicts, so none of them moves meanwhile. Threads may share it.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._busy = 0
        self._before_s = 0.0
        self._since = 0.0

    @contextmanager
    def meanwhile(self) -> Generator[None]:
        """Be busy inside."""
        self._change(+1)
        try:
            yield
        finally:
            self._change(-1)

    def seconds(self) -> float:
        """Return the sum up to now; what several trials keep it waiting for at once counts once."""
        with self._lock:
            return self._sum()

    def _change(self, by: int) -> None:
        with self._lock:
            self._before_s = self._sum()
            self._since = self._clock()
            self._busy += by

    def _sum(self) -> float:
        return self._before_s + (self._clock() - self._since if self._busy else 0.0)


class StallDetector:
    """Knows when the runner of one attempt has kept silent for too long.

    Args:
        timeouts: how patient to be.
        clock: seconds that only go forward.
        busy_s: tells for how long the runner could do nothing.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        clock: Callable[[], float] = time.monotonic,
        busy_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._busy_s = busy_s
        self._busy_before_s = 0.0
        self._moved_at: float | None = None
        self._epoch_began_at = 0.0
        self._slowest_s = 0.0
        self._deadline: float | None = None

    def begin(self) -> None:
        """The runner trains from now on."""
        self.moved()
        self._epoch_began_at = self._clock()

    def moved(self) -> None:
        """The runner has shown life."""
        self._moved_at = self._clock()
        self._busy_before_s = self._busy_s()

    def epoch_done(self) -> None:
        """Remember how long an epoch may take."""
        self._slowest_s = max(self._slowest_s, self._clock() - self._epoch_began_at)

    def leave_soon(self) -> None:
        """Expect the runner to let go of the trial within half of the grace."""
        if self._deadline is None:
            self._deadline = self._clock() + self._timeouts.grace_s / 2

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
            message = f"No progress for {self._timeouts.stall_after(self._slowest_s):.0f} s."
        else:
            return None
        self.moved()
        return Failed(error="stalled", message=message, retryable=True)

    def _stalls_at(self) -> float:
        moved_at = self._clock() if self._moved_at is None else self._moved_at
        kept_s = self._busy_s() - self._busy_before_s
        return moved_at + kept_s + self._timeouts.stall_after(self._slowest_s)
