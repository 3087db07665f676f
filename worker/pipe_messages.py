"""The messages between an agent and its runner: one JSON document per line, over two inherited pipes.

Pipes, and not `multiprocessing`: messages are checked by their models on arrival (nothing is unpickled), the runner is
started afresh instead of forked (a fork of a process with threads or CUDA is not safe), and any program that reads and
writes these lines can take the runner's place, as in the tests.
"""

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
    """A checkpoint on this machine: the training state after `step`, or within the epoch after it.

    Within the first epoch, `step` is 0 as well.
    """

    step: int

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint's name at the service."""
        return Checkpoint(step=self.step, sha256=self.sha256, bytes=self.bytes)


# From the agent


class MemberStates(Message):
    """The states of one of a final lease's members that could be had; None: there is none, or it is lost."""

    validated: SavedState | None = None
    refits: tuple[SavedState | None, ...] = ()
    """Those of its refits, in the order in which the lease names them."""


class RunTrial(Message):
    """Run this lease, from the first of `resume` that can be used, else from the beginning."""

    kind: Literal["run_trial"] = "run_trial"
    lease: Lease
    folder: Path
    """The folder for the checkpoints and the exported model of this lease."""
    resume: tuple[SavedState, ...] = ()
    members: tuple[MemberStates, ...] = ()
    """The states of the lease's members, in their order."""
    outputs: Path | None = None
    """What the study's trials answered to the validation split (`worker/trial_outputs.py`); None where it is not known."""
    memory: tuple[MemoryFinding, ...] = ()
    """The earlier findings about the backbone's memory."""
    teacher: Path | None = None
    """The model file of the teacher, whose answers are learned in addition to the labels."""
    data: Path | None = None
    """The folder or table of the data set, where that has an address and was fetched."""


OPENING = 0
"""The step of the verdict that answers a final lease's `Began`: only on `continue` is the test split opened."""


class Steer(Message):
    """The verdict on the epoch of `step`; without a step, one that came between two epochs and is obeyed at once."""

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
    devices: int = 1
    """The number of devices that a trial may be trained on."""


class Refused(Message):
    """The runner cannot work here, and leaves; `message` says why and what to change."""

    kind: Literal["refused"] = "refused"
    message: str


class Progress(Message):
    """The trial makes progress, although no epoch has ended."""

    kind: Literal["progress"] = "progress"
    lease_id: UUID


class Began(Message):
    """The runner has loaded all that it needs, and begins; with a final lease it waits for a verdict first."""

    kind: Literal["began"] = "began"
    lease_id: UUID
    record: TrialRecord
    may_group: bool = False
    """Whether this trial opens a group: only a small head learns, and the agent may send further trials meanwhile."""


class EpochDone(Message):
    """An epoch has ended; the runner waits for its verdict."""

    kind: Literal["epoch_done"] = "epoch_done"
    lease_id: UUID
    report: Report
    newest: SavedState | None = None
    """The newest state on disk, which may be of an earlier epoch."""
    best: SavedState | None = None
    finding: MemoryFinding | None = None
    """What the epoch has shown about the device's memory, if that is new."""


class Ended(Message):
    """The runner has left the lease, and is ready for the next."""

    kind: Literal["ended"] = "ended"
    lease_id: UUID
    outcome: Outcome | None
    """None if the trial was released on a verdict of the agent, to be resumed from `newest`."""
    newest: SavedState | None = None
    best: SavedState | None = None
    models: tuple[StoredFile, ...] = ()
    """The exported models of a final lease."""


News = Annotated[
    Ready | Refused | Progress | Began | EpochDone | Ended, Field(discriminator="kind")
]

ORDERS: TypeAdapter[Order] = TypeAdapter(Order)
NEWS: TypeAdapter[News] = TypeAdapter(News)


class Sender:
    """Writes messages to a pipe, a line each; threads may share it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write one message.

        Raises:
            BrokenPipeError: The other process no longer reads, or this end is closed.
        """
        # A pipe takes at most PIPE_BUF bytes in one piece, and a lease is longer: the lock keeps lines of threads apart.
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
    """Yield the agent's orders until it closes the pipe or dies."""
    with open(fd, "rb") as pipe:
        for line in pipe:
            yield ORDERS.validate_json(line)


def read_news(fd: int) -> Iterator[News]:
    """Yield the runner's messages until it exits; a last line that its death cut off is dropped."""
    with open(fd, "rb") as pipe:
        for line in pipe:
            if line.endswith(b"\n"):
                yield NEWS.validate_json(line)
