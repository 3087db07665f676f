"""Whether a study's workers can serve it, what the first of them found, and the second chance of those that could not."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from service.storage import records, set_aside, studies
from service.use_cases.context import Context
from trimtab.contract.records import Probe
from trimtab.contract.workers import WorkerSetAside


def of_study(connection: Connection, row: studies.StudyRow) -> dict[str, Any]:
    """The fields of a `Study` that tell who cannot serve it, and whether that blocks it."""
    standing = set_aside.standing(connection, row.study_id)
    workers = tuple(WorkerSetAside(**asdict(one)) for one in standing.workers)
    problem = row.problem
    if standing.blocked and workers:
        problem = (
            f"No worker can serve the study. Worker {workers[0].worker}: {workers[0].problem}\n"
            f"Once the cause is gone, `trimtab study resume {row.name}` lets the workers try again."
        )
    elif standing.blocked:
        problem = _too_small(standing)
    return {"blocked": standing.blocked, "problem": problem, "set_aside": workers}


def _too_small(standing: set_aside.Standing) -> str:
    """Tell that no worker has the devices that a study needs."""
    wanted = standing.devices_per_trial
    if wanted > standing.most_devices:
        return (
            f"No worker can serve the study: each trial is trained on {wanted} devices, and no worker offers more than "
            f"{standing.most_devices}. It goes on by itself when `trimtab worker start --devices {wanted}` is run on a "
            "machine with so many."
        )
    largest = standing.largest
    if largest is None or not largest.gpu_bytes:
        there = "no worker has a GPU"
    else:
        there = (
            f"the largest one has {largest.gpu_bytes / 1e9:.1f} GB (worker {largest.worker})"
        )
    return (
        f"No worker can serve the study: it needs a GPU with {standing.gpu_memory_gb or 0:g} GB, and {there}. "
        "It goes on by itself when a worker with such a GPU starts."
    )


def probe_of(connection: Connection, study_id: int) -> Probe | None:
    """What the study's first epoch took."""
    measured = records.first_epoch(connection, study_id)
    if measured is None:
        return None
    memory = measured.get("memory_bytes")
    return Probe(
        epoch_s=measured.get("seconds"), memory_bytes=None if memory is None else int(memory)
    )


def let_all_try_again(context: Context, name: str) -> bool:
    """Forget which workers were set aside for a study; false where that changes nothing, or the study is paused."""
    with context.database.transaction() as connection:
        locked = studies.lock(connection, name)
        return locked is not None and set_aside.clear(connection, locked.study_id)
