"""What the agent and its runner say to each other: one JSON document a line, over two inherited pipes."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from trimtab.contract.leases import Checkpoint, Lease, Outcome, Report, Verdict
from trimtab.contract.memory import MemoryFinding
from trimtab.contract.message import Message
from trimtab.contract.records import TrialRecord


class StoredFile(Message):
    """A whole file on this machine, named by its content."""

    path: Path
    sha256: str
    bytes: int


class SavedState(StoredFile):
    """A training state on this machine, after `step`."""

    step: int

    def checkpoint(self) -> Checkpoint:
        """Name it as the service does."""
        return Checkpoint(step=self.step, sha256=self.sha256, bytes=self.bytes)


# From the agent


class RunTrial(Message):
    """Run this lease, from the first of `resume` that can be read, else from the beginning."""

    kind: Literal["run_trial"] = "run_trial"
    lease: Lease
    folder: Path
    """Where checkpoints and the exported model of this lease belong."""
    resume: tuple[SavedState, ...] = ()
    memory: tuple[MemoryFinding, ...] = ()
    """What is known of the backbone's need of memory."""
    teacher: Path | None = None
    """The model file whose answers are learned beside the labels."""


OPENING = 0
"""The step of the answer to a final lease's `Began`: only at `continue` is the test split opened."""


class Steer(Message):
    """The answer to the epoch of `step`; without a step, a word in between that is heeded at once."""

    kind: Literal["steer"] = "steer"
    lease_id: UUID
    verdict: Verdict
    step: int | None = None


Order = Annotated[RunTrial | Steer, Field(discriminator="kind")]


# From the runner


class Ready(Message):
    """The runner is warm and waits for a trial."""

    kind: Literal["ready"] = "ready"
    device: str
    memory_bytes: int | None = None


class Refused(Message):
    """The runner cannot work as it was asked to, and leaves."""

    kind: Literal["refused"] = "refused"
    message: str


class Progress(Message):
    """The trial moves, though no epoch has ended."""

    kind: Literal["progress"] = "progress"
    lease_id: UUID


class Began(Message):
    """The runner has all that it needs, and begins; of a final lease, it waits for leave to open the test split."""

    kind: Literal["began"] = "began"
    lease_id: UUID
    record: TrialRecord
    may_group: bool = False
    """Whether trials that are alike (`worker.grouping`) may be sent while it trains: a small head learns alone."""


class EpochDone(Message):
    """An epoch has ended; the runner waits for its verdict."""

    kind: Literal["epoch_done"] = "epoch_done"
    lease_id: UUID
    report: Report
    newest: SavedState | None = None
    """The newest state on disk, which may be of an earlier epoch."""
    best: SavedState | None = None
    finding: MemoryFinding | None = None
    """What was learned about the device's memory, when it is news."""


class Ended(Message):
    """The runner has left the lease, and is ready for the next."""

    kind: Literal["ended"] = "ended"
    lease_id: UUID
    outcome: Outcome | None
    """None where it was put aside as told, to be carried on from `newest`."""
    newest: SavedState | None = None
    best: SavedState | None = None
    model: StoredFile | None = None
    """The exported model of a final lease."""


News = Annotated[
    Ready | Refused | Progress | Began | EpochDone | Ended, Field(discriminator="kind")
]

ORDERS: TypeAdapter[Order] = TypeAdapter(Order)
NEWS: TypeAdapter[News] = TypeAdapter(News)


class Sender:
    """Writes whole lines to a pipe; threads may share it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write one message.

        Raises:
            BrokenPipeError: nobody reads any more, or this end is closed.
        """
        line = memoryview(message.model_dump_json().encode() + b"\n")
        with self._lock:
            if self._fd < 0:
                raise BrokenPipeError
            while line:
                line = line[os.write(self._fd, line) :]

    def close(self) -> None:
        """Close the writing end; closing twice is harmless."""
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def read_orders(fd: int) -> Iterator[Order]:
    """Read what the agent sends, until it is gone."""
    with open(fd, "rb") as pipe:
        for line in pipe:
            yield ORDERS.validate_json(line)


def read_news(fd: int) -> Iterator[News]:
    """Read what the runner sends, until it is gone; a line that was cut off by its death is dropped."""
    with open(fd, "rb") as pipe:
        for line in pipe:
            if line.endswith(b"\n"):
                yield NEWS.validate_json(line)
