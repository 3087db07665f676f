"""Demand: how many leases workers could take now, and how many they hold, by what the studies need of a device."""

from typing import Annotated

from pydantic import Field

from trimtab.contract.message import Int, Message, Number

GpuMemory = Annotated[Number, Field(gt=0, le=10_000)]
"""The memory of a GPU in GB (10^9 bytes), as its maker names it: 24 for an L4, of which its driver keeps a part."""


Devices = Annotated[Int, Field(ge=1, le=64)]


class Needs(Message):
    """What a study needs of a worker's devices; a worker that has less gets none of its trials."""

    gpu_memory_gb: GpuMemory | None = None
    """What each device has; null: any device will do."""
    devices_per_trial: Devices = 1
    """The number of devices of one machine that each trial is trained on; its batches are divided among them."""


class DemandOfNeed(Message):
    """The demand of the studies that need the same of a device."""

    gpu_memory_gb: float
    """What they need; 0: they run on any device."""
    devices_per_trial: int = 1
    """The number of devices that each of their trials is trained on."""
    waiting: int
    leased: int


class Demand(Message):
    """How many leases there is work for. External studies are not counted: their loops are started by people."""

    waiting: int
    """Leases that a claim could get now: trials that wait, and those that budgets leave to be proposed."""
    leased: int
    """Leases that workers hold."""
    total: int
    """Both together: the number of slots of workers that have something to do."""
    by_need: tuple[DemandOfNeed, ...]
    """The same by what the studies need, the least need first."""
