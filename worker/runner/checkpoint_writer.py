"""Writes checkpoints to disk while training goes on.

It decides when a checkpoint is due: often enough that a crash costs little training, and seldom enough that writing
takes a small part of the time.
"""

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
"""The largest part of the time that goes into writing."""
BYTES_PER_S = 200e6
"""The assumed speed of the disk before the first write has shown it."""


class State(Protocol):
    """A training between two epochs, or within one."""

    @property
    def epoch(self) -> int:
        """The last finished epoch, from 0; -1 if there is none."""
        ...

    def save(self, path: Path, /) -> str | None:
        """Write it to a file; return the file's sha256 if that was computed while writing."""
        ...


class Epoch(Protocol):
    """An epoch that has just ended; its state can be copied until the next epoch begins."""

    @property
    def kept(self) -> bool:
        """Whether its state is the one to evaluate, as long as no later epoch's is."""
        ...

    @property
    def last(self) -> bool:
        """Whether it is the last epoch of the training."""
        ...

    @property
    def nbytes(self) -> int:
        """The approximate size of its state, in bytes."""
        ...

    def state(self, *, whole: bool = True, copy: bool = True) -> State:
        """Return its state.

        Args:
            whole: False returns only the part that the final evaluation needs, not what training needs to go on.
            copy: False shares memory with the model, so that the state is valid only until the model changes.
        """
        ...


class CheckpointWriter:
    """Keeps the newest and the best state of one trial on disk; a best state that is not due waits in memory.

    The best one is what is evaluated if the trial ends now: the state of the last epoch, unless early stopping holds
    another one best. It waits in memory because a trial may have to finish within the next epoch.

    A thread writes copies of the states while training goes on. If a write fails, because the disk is full, say, the
    trial goes on without that checkpoint, with one warning.

    Args:
        folder: the folder for this attempt's checkpoints.
        clock: monotonic clock, in seconds.
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
        """Begin to write the epoch that has just ended if that is due; keep its state in memory if it is the one to evaluate."""
        # No training resumes after the last epoch. Its state is wanted for evaluation alone, and without a copy, since
        # the model does not change any more.
        if not epoch.last and self._is_due(epoch):
            self._begin(epoch)
        elif epoch.kept:
            # The old state is freed first, so that the new copy gets its memory: fresh pages cost more than the copy.
            self._waiting = None
            self._waiting = epoch.state(whole=False, copy=not epoch.last)

    def save(self, epoch: Epoch) -> None:
        """Write the epoch's state now, and the best one if it is not on disk."""
        self.finish()
        self._begin(epoch)
        self.finish()

    def save_best(self) -> None:
        """Write the best state if it is not on disk."""
        self.finish()
        self._write_best()

    def finish(self) -> None:
        """Wait until nothing is being written."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """End the writing thread."""
        self._thread.shutdown()

    def _is_due(self, epoch: Epoch) -> bool:
        if self._writing is not None and not self._writing.done():
            return False
        self.finish()
        now = self._clock()
        # The first write waits until training has taken so long that the expected time of a write is a small part of it.
        return now >= self._due_at and (
            self.newest is not None or now - self._began >= epoch.nbytes / BYTES_PER_S / SHARE
        )

    def _begin(self, epoch: Epoch) -> None:
        state = epoch.state()
        if epoch.kept:
            self._waiting = state
        self._writing = self._thread.submit(self._write_all, None if epoch.kept else state)

    def _write_all(self, newest: State | None) -> None:
        began = self._clock()
        self._write_best()
        if newest is not None:
            self.newest = self._write(newest) or self.newest
        # After a write of w seconds there is none for w * (1 / SHARE - 1) seconds, so that writing takes SHARE at most.
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
        # A better state may have arrived while this one was written: then that one still waits.
        if self._waiting is waiting:
            self._waiting = None

    def _write(self, state: State) -> SavedState | None:
        try:
            # A state within the first epoch is told as one of step 0: the service counts from there.
            step = max(0, state.epoch)
            return checkpoints.save(self._folder, step, state.save, best=self.best)
        except OSError as error:
            if not self._complained:
                log.warning(
                    "training goes on without checkpoints; make room in, or allow writing to, %s: %s",
                    self._folder,
                    error,
                )
            self._complained = True
            return None
