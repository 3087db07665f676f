"""Tells when a runner has stalled, by a monotonic clock.

A runner reports progress with every message about a trial, and about once a second while it works. A runner without
progress is killed, because a call that hangs in a driver would hold the device for ever; its trials are queued again.
Two kinds of silence are not the runner's fault and are taken off: the time in which an attempt of the agent was busy
while the runner waited for its verdict (`BusyTime`), and the time in which the agent itself did not run.
"""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from trimtab.contract.leases import Failed

ASLEEP_S = 5.0
"""If a wait ends this much later than asked for, this process did not run: it was stopped, or the machine suspended."""


@dataclass(frozen=True)
class Timeouts:
    """How long an agent waits for its runner, in seconds."""

    stall_s: float = 300.0
    """A runner without progress for this long, and for ten times its slowest epoch, has stalled."""
    grace_s: float = 30.0
    """The time to leave in after a request to drain: half to end the batch and write its checkpoint, half to upload it."""

    def stall_after(self, slowest_epoch_s: float) -> float:
        """Return the seconds without progress after which a runner has stalled."""
        return max(self.stall_s, 10 * slowest_epoch_s)


class BusyTime:
    """The total time in which an attempt's thread was busy and the runner had to wait for its verdict.

    The trials of a group wait for each other's verdicts, so while one attempt waits for the service, say, none of them
    makes progress. All attempts of an agent share one `BusyTime`, each from its own thread.

    Args:
        clock: monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._busy = 0
        self._before_s = 0.0
        self._since = 0.0

    @contextmanager
    def meanwhile(self) -> Generator[None]:
        """Count the time inside the block as busy."""
        self._change(+1)
        try:
            yield
        finally:
            self._change(-1)

    def seconds(self) -> float:
        """Return the seconds up to now; time in which several attempts are busy counts once."""
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
    """Tells when the runner of one attempt has made no progress for too long.

    Args:
        timeouts: the times after which to give up.
        clock: monotonic clock, in seconds.
        busy_s: returns the total seconds in which the runner had to wait for the agent.
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
        """Note that the runner trains from now on."""
        self.moved()
        self._epoch_began_at = self._clock()

    def moved(self) -> None:
        """Note that the runner has made progress."""
        self._moved_at = self._clock()
        self._busy_before_s = self._busy_s()

    def epoch_done(self) -> None:
        """Note how long the epoch took that has just ended."""
        self._slowest_s = max(self._slowest_s, self._clock() - self._epoch_began_at)

    def leave_soon(self) -> None:
        """Expect the runner to release the trial within half of the grace."""
        if self._deadline is None:
            self._deadline = self._clock() + self._timeouts.grace_s / 2

    def end(self) -> None:
        """Expect nothing more of the runner; what is left to do, the agent does itself."""
        self._moved_at = None

    def is_moving(self) -> bool:
        """Tell whether there is progress."""
        return self._moved_at is None or self._clock() < self._stalls_at()

    def seconds_left(self) -> float:
        """Return how long to wait before looking at `verdict`."""
        alarm = self._stalls_at() if self._deadline is None else self._deadline
        return max(0.0, min(alarm, self._stalls_at()) - self._clock())

    def overslept(self, seconds: float) -> None:
        """Take off the seconds in which this process did not run.

        A stopped process or a suspended machine reads no messages: the runner's progress may still lie in the pipe.
        """
        if seconds >= ASLEEP_S and self._moved_at is not None:
            self._moved_at += seconds

    def verdict(self) -> Failed | None:
        """Return the failure to kill the runner with, or None while it need not be killed."""
        if self._deadline is not None and self._clock() >= self._deadline:
            self._deadline = None
            message = f"The training process did not release the trial within {self._timeouts.grace_s / 2:.0f} s."
        elif not self.is_moving():
            seconds = self._timeouts.stall_after(self._slowest_s)
            message = (
                f"The training process made no progress for {seconds:.0f} s; if a single batch may take longer, "
                "set TRIMTAB_WORKER_STALL_S."
            )
        else:
            return None
        # The kill takes a moment: the next verdict must not come before the exit is reported.
        self.moved()
        return Failed(error="stalled", message=message, retryable=True)

    def _stalls_at(self) -> float:
        moved_at = self._clock() if self._moved_at is None else self._moved_at
        # Only the busy time since the last progress counts: earlier waits are over.
        kept_s = self._busy_s() - self._busy_before_s
        return moved_at + kept_s + self._timeouts.stall_after(self._slowest_s)
