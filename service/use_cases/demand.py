"""Demand: how many leases there is work for, so that somebody can decide how many workers to run."""

from dataclasses import asdict

from service.storage import demand, turn
from service.use_cases.context import Context
from trimtab.contract.demand import Demand, DemandOfNeed


def now(context: Context, gpu_memory_gb: float | None, devices: int | None) -> Demand:
    """Count the leases that could be served now and those that are held.

    Args:
        context: the rooms below.
        gpu_memory_gb: the memory of a device's GPU in GB; what it cannot hold is left out. None: nothing is.
        devices: the number of devices of a worker; what needs more of them is left out. None: nothing is.
    """
    with context.database.statements() as connection:
        rows = demand.by_need(connection, gpu_memory_gb, devices)
    waiting, leased = sum(row.waiting for row in rows), sum(row.leased for row in rows)
    return Demand(
        waiting=waiting,
        leased=leased,
        total=waiting + leased,
        by_need=tuple(DemandOfNeed(**asdict(row)) for row in rows),
    )


def is_any(context: Context) -> bool:
    """Tell whether a claim might find something to do: a look by some worker, if not by every one."""
    with context.database.statements() as connection:
        return turn.is_any(connection)
