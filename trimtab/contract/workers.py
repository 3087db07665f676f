"""Workers: processes with a device, as they register and as the service lists them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from trimtab.contract.demand import Devices
from trimtab.contract.message import Int, Message, Name, Text

WorkerState = Literal["alive", "draining", "gone", "quarantined"]


class WorkerSetAside(Message):
    """A worker that gets no more trials of a study, and why; until it registers anew, or the study is resumed."""

    worker: str
    problem: str
    at: datetime


class Registration(Message):
    """A worker describes itself when it starts. The service answers with the worker's id."""

    label: Name
    device: Annotated[Text, Field(max_length=128)]
    memory_bytes: Annotated[Int, Field(ge=0, lt=2**63)] | None = None
    capacity: Annotated[Int, Field(ge=1, le=64)] = 1
    """The number of leases that it may hold at a time; more than one if it trains trials of one study together."""
    devices: Devices = 1
    """The number of devices that it trains a trial on, if the trial's study needs so many."""
    study: Name | None = None
    """The external study whose trials a loop of a person's own takes, and no others; null: one of trimtab's workers."""


class Worker(Message):
    """One worker, as the service knows it now."""

    worker_id: UUID
    label: str
    device: str
    memory_bytes: int | None = None
    capacity: int
    devices: int = 1
    """The most devices that it trains a trial on."""
    state: WorkerState
    last_seen: datetime
    running: int = 0
    study: str | None = None
    """The external study whose trials it takes; null: one of trimtab's workers, which takes those of all others."""


class Workers(Message):
    """All workers, newest first."""

    workers: tuple[Worker, ...]
