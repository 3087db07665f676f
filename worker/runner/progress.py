"""How a runner shows that its trial moves: batch by batch, and before the first one by the work it does."""

import contextlib
import re
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from worker.pipe_messages import Progress
from worker.runner.agent_channel import AgentChannel

EVERY_S = 1.0
LEAST_SHARE = 0.02
LEAST_BYTES = 1 << 16
"""A process that uses less of a processor in a second, and writes less, is waiting for something."""
_WRITTEN = re.compile(r"^wchar: (\d+)$", re.MULTILINE)


class Cancelled(Exception):
    """The agent wants this trial to end within the epoch."""


class Finished(Exception):
    """The study's time is over: the trial is to complete with the best epoch that it has."""


class Released(Exception):
    """The agent wants this lease back before anything is done."""


class ProgressReporter:
    """Speaks for one lease.

    Args:
        channel: to the agent.
        lease_id: of the trial that moves.
    """

    def __init__(self, channel: AgentChannel, lease_id: UUID) -> None:
        self._channel = channel
        self._lease_id = lease_id
        self._told_at = time.monotonic()

    def batch(self) -> None:
        """Show life between two batches.

        Raises:
            Cancelled, Finished: the agent said so meanwhile.
        """
        now = time.monotonic()
        if now - self._told_at >= EVERY_S:
            self._told_at = now
            self._tell()
        match self._channel.asked(self._lease_id):
            case "cancel":
                raise Cancelled
            case "finish":
                raise Finished
            case _:
                pass

    @contextlib.contextmanager
    def busy(self) -> Generator[None]:
        """Show life while this process computes or copies: decoding pictures, say, has no batches."""
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


@dataclass(frozen=True)
class Work:
    """What this process has done since it began."""

    processor_s: float
    written_bytes: int


def work_done() -> Work:
    """Ask the kernel; where it does not tell of writes, there were none."""
    try:
        written = _WRITTEN.search(Path("/proc/self/io").read_text())
    except OSError:
        written = None
    return Work(time.process_time(), int(written[1]) if written else 0)


def has_moved(before: Work, now: Work) -> bool:
    """Tell whether the second in between was work rather than waiting."""
    return (
        now.processor_s - before.processor_s >= LEAST_SHARE * EVERY_S
        or now.written_bytes - before.written_bytes >= LEAST_BYTES
    )
