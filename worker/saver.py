"""When a training writes its state to disk: often enough to lose little, seldom enough to cost nothing."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from worker import checkpoints
from worker.pipe_messages import SavedState

log = logging.getLogger(__name__)

SHARE = 0.02
"""At most this part of the time goes into writing."""
BYTES_PER_S = 200e6
"""How fast a disk is believed to be before the first write has shown it."""


class State(Protocol):
    """A training between two epochs."""

    @property
    def epoch(self) -> int:
        """The last finished epoch, from 0."""
        ...

    def save(self, path: Path, /) -> None:
        """Write it to a file."""
        ...


class Saver:
    """Keeps the newest and the best state of one trial on disk; a best one that is not due waits in memory.

    A disk that is full costs the checkpoint, never the training; it is said once.

    Args:
        folder: where they belong.
        clock: seconds that only go forward.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.newest: SavedState | None = None
        self.best: SavedState | None = None
        self._folder = folder
        self._clock = clock
        self._began = self._due_at = clock()
        self._waiting: State | None = None
        self._complained = False

    def offer(
        self,
        take: Callable[[], State],
        *,
        is_best: bool,
        take_best: Callable[[], State] | None = None,
        nbytes: int = 0,
    ) -> None:
        """Look at the epoch that has just ended.

        Args:
            take: Copies its state, which costs memory and time.
            is_best: Whether it is the best so far.
            take_best: Copies what the final evaluation needs of it; None is all.
            nbytes: About how large the state is: the first write waits until it is worth its time.
        """
        now = self._clock()
        if now >= self._due_at and now - self._began >= nbytes / BYTES_PER_S / SHARE:
            self.save(take(), is_best=is_best)
        elif is_best:
            self._waiting = (take_best or take)()

    def save(self, state: State, *, is_best: bool) -> None:
        """Write this state now, and the best one if it is not on disk."""
        began = self._clock()
        if is_best:
            self._waiting = state
        self.save_best()
        if not is_best:
            self.newest = self._write(state) or self.newest
        ended = self._clock()
        self._due_at = ended + (ended - began) * (1 / SHARE - 1)

    def save_best(self) -> None:
        """Write the best state if it is not on disk."""
        if self._waiting is None:
            return
        saved = self._write(self._waiting)
        if saved is not None:
            self._waiting = None
            self.best = saved
            if self.newest is None or self.newest.step < saved.step:
                self.newest = saved

    def _write(self, state: State) -> SavedState | None:
        try:
            return checkpoints.save(self._folder, state.epoch, state.save, best=self.best)
        except OSError as error:
            if not self._complained:
                log.warning("training goes on without checkpoints: %s", error)
            self._complained = True
            return None
