"""Reports a trial's progress to the agent: after batches, and before the first one by the work that the process does.

Loading data has no batches, and may take minutes. A thread that only said "alive" would say so for a process that hangs
as well. So it looks at what the kernel counts: processor time and bytes written.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from worker.pipe_messages import Progress
from worker.runner.agent_channel import AgentChannel
from worker.training.errors import Interrupted

EVERY_S = 1.0
LEAST_SHARE = 0.02
"""The part of a processor that a process uses at least, averaged over a second, if it works."""
LEAST_BYTES = 1 << 16
"""The bytes that a process writes in a second at least, if it copies. With less of both, it waits for something."""
_WRITTEN = re.compile(r"^wchar: (\d+)$", re.MULTILINE)


class Cancelled(Exception):
    """The agent has cancelled this trial; raised within an epoch to end it."""


class Finished(Exception):
    """The study's time is over: the trial is to complete with the last epoch that is over."""


class Paused(Interrupted):
    """The agent releases the trial: its state is saved between two batches, and another attempt goes on from there."""


class Released(Exception):
    """The agent has taken this lease back before the test split was opened."""


class ProgressReporter:
    """Reports the progress of one lease.

    Args:
        channel: The channel to the agent.
        lease_id: The lease whose trial makes progress.
    """

    def __init__(self, channel: AgentChannel, lease_id: UUID) -> None:
        self._channel = channel
        self._lease_id = lease_id
        self._told_at = time.monotonic()
        self._batches_left = 0
        self._then: Callable[[], object] = _nothing

    def after_first_batch(self, then: Callable[[], object]) -> None:
        """Call `then` once the batch that begins next has been computed: when the one after it begins."""
        self._batches_left, self._then = 2, then

    def batch(self) -> None:
        """Report progress between two batches, once a second at most.

        Raises:
            Cancelled: The agent has cancelled the trial meanwhile.
            Finished: The agent has told it to finish meanwhile.
            Paused: The agent has told it to pause meanwhile.
        """
        self._count()
        now = time.monotonic()
        if now - self._told_at >= EVERY_S:
            self._told_at = now
            self._tell()
        match self._channel.verdict_between_epochs(self._lease_id):
            case "cancel":
                raise Cancelled
            case "finish":
                raise Finished
            case "pause":
                raise Paused
            case _:
                pass

    def _count(self) -> None:
        self._batches_left -= 1
        if self._batches_left == 0:
            self._then()

    @contextlib.contextmanager
    def busy(self) -> Generator[None]:
        """Report progress while the block computes or copies; for work without batches, such as decoding pictures."""
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, done: threading.Event) -> None:
        before = work_done()
        while not done.wait(EVERY_S):
            now = work_done()
            if has_moved(before, now):
                self._tell()
            before = now

    def _tell(self) -> None:
        self._channel.say(Progress(lease_id=self._lease_id))


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Work:
    """The work that this process has done since it was started."""

    processor_s: float
    written_bytes: int


def work_done() -> Work:
    """Ask the kernel for this process's work; where it does not count written bytes, they are 0."""
    try:
        written = _WRITTEN.search(Path("/proc/self/io").read_text())
    except OSError:
        written = None
    return Work(time.process_time(), int(written[1]) if written else 0)


def has_moved(before: Work, now: Work) -> bool:
    """Tell whether the process worked, and not only waited, between two measurements `EVERY_S` apart."""
    return (
        now.processor_s - before.processor_s >= LEAST_SHARE * EVERY_S
        or now.written_bytes - before.written_bytes >= LEAST_BYTES
    )
