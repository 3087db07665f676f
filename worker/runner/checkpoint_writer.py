"""When a training writes its state to disk: often enough to lose little, seldom enough to cost nothing."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
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

    def save(self, path: Path, /) -> str | None:
        """Write it to a file; return the sha256 where it is known."""
        ...


class Epoch(Protocol):
    """What has just been trained, and can be copied until the next epoch begins."""

    @property
    def best(self) -> bool:
        """Whether it is the best so far."""
        ...

    @property
    def last(self) -> bool:
        """Whether no other follows it."""
        ...

    @property
    def nbytes(self) -> int:
        """About how large its state is."""
        ...

    def state(self, *, whole: bool = True, copy: bool = True) -> State:
        """Copy its state, which costs memory and time; without `whole`, what the final evaluation needs of it.

        Without `copy` it is good until the model is used again.
        """
        ...


class CheckpointWriter:
    """Keeps the newest and the best state of one trial on disk; a best one that is not due waits in memory.

    States are copies, and a thread of its own writes them while training goes on. After the last epoch nothing trains:
    if it is the best it is not copied, and nothing else of it is written. A disk that is full costs the checkpoint,
    never the training; it is said once.

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
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None

    def offer(self, epoch: Epoch) -> None:
        """Look at the epoch that has just ended: begin to write it if that is due, keep it if it is the best."""
        if not epoch.last and self._is_due(epoch):
            self._begin(epoch)
        elif epoch.best:
            # Its memory takes the new one: fresh pages cost more than the copy.
            self._waiting = None
            self._waiting = epoch.state(whole=False, copy=not epoch.last)

    def save(self, epoch: Epoch) -> None:
        """Write its state now, and the best one if it is not on disk."""
        self.finish()
        self._begin(epoch)
        self.finish()

    def save_best(self) -> None:
        """Write the best state if it is not on disk."""
        self.finish()
        self._write_best()

    def finish(self) -> None:
        """Wait for what is being written."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """Leave nothing running."""
        self._thread.shutdown()

    def _is_due(self, epoch: Epoch) -> bool:
        if self._writing is not None and not self._writing.done():
            return False
        self.finish()
        now = self._clock()
        # The first write waits until it is worth its time.
        return now >= self._due_at and (
            self.newest is not None or now - self._began >= epoch.nbytes / BYTES_PER_S / SHARE
        )

    def _begin(self, epoch: Epoch) -> None:
        state = epoch.state()
        if epoch.best:
            self._waiting = state
        self._writing = self._thread.submit(self._write_all, None if epoch.best else state)

    def _write_all(self, newest: State | None) -> None:
        began = self._clock()
        self._write_best()
        if newest is not None:
            self.newest = self._write(newest) or self.newest
        ended = self._clock()
        self._due_at = ended + (ended - began) * (1 / SHARE - 1)

    def _write_best(self) -> None:
        waiting = self._waiting
        saved = None if waiting is None else self._write(waiting)
        if saved is None:
            return
        self.best = saved
        if self.newest is None or self.newest.step < saved.step:
            self.newest = saved
        if self._waiting is waiting:
            self._waiting = None

    def _write(self, state: State) -> SavedState | None:
        try:
            return checkpoints.save(self._folder, state.epoch, state.save, best=self.best)
        except OSError as error:
            if not self._complained:
                log.warning("training goes on without checkpoints: %s", error)
            self._complained = True
            return None
