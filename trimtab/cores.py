"""The cores that a process may use, and how threads that share them wait for each other.

A container sees all cores of its machine. What it may use of them stands in its CPU affinity and in the quota of its
control group: CPU time in each period, in microseconds (https://docs.kernel.org/admin-guide/cgroup-v2.html, `cpu.max`;
https://docs.kernel.org/scheduler/sched-bwc.html for version 1).
"""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

ROOT = Path("/")
_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def usable(root: Path = ROOT, *, allowed: int | None = None, present: int | None = None) -> int:
    """Return the number of cores that this process may use; at least 1.

    A quota is rounded up: with half a core to spare, one more thread uses it.

    Args:
        root: The folder that holds `proc` and `sys`.
        allowed: The number of cores in the process's CPU affinity; None asks the kernel.
        present: The number of cores of the machine; None asks the kernel.
    """
    present = present or os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(root)]
    return max(1, min(present, allowed or _in_affinity() or present, *quotas))


def waiting(environment: Mapping[str, str], *, shared: bool) -> dict[str, str]:
    """Return the variables that tell OpenMP's threads how to wait; a policy of the user stays.

    Threads of one computation that wait for each other spin for some microseconds and then sleep (GOMP_SPINCOUNT of
    libgomp, https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html). Measured on two idle cores, this is as
    fast as spinning on, and sleeping at once takes 1.4 to 1.6 times as long. Where several trainings share the cores, a
    thread that spins keeps another training from its core: there they sleep at once, and a step takes half the time.

    Args:
        environment: The variables that the user has set.
        shared: Whether several training processes share the cores.
    """
    if any(name in environment for name in _POLICIES):
        return {}
    return {"OMP_WAIT_POLICY": "PASSIVE"} if shared else {"GOMP_SPINCOUNT": "20000"}


def _in_affinity() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        # Only Linux has affinities that a process can read.
        return None


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each control group that this process is in, and of those around it, in cores."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        # Version 2 has one tree, whose controllers have no names here; version 1 has a tree for each controller.
        named = controllers.split(",")
        for folder in _around(PurePosixPath(path)):
            if controllers == "":
                quota = _version_2(root / "sys/fs/cgroup" / folder)
            elif "cpu" in named:
                quota = _version_1(root / "sys/fs/cgroup", controllers, folder)
            else:
                continue
            if quota is not None:
                yield quota


def _around(path: PurePosixPath) -> Iterator[PurePosixPath]:
    # In a container, the path may be the one outside of it, which is not there: then the tree's root is the container's.
    inside = PurePosixPath(*(part for part in path.parts if part not in ("/", "..")))
    yield inside
    yield from inside.parents


def _version_2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _version_1(trees: Path, controllers: str, folder: PurePosixPath) -> float | None:
    # The tree of `cpu,cpuacct` has a link `cpu` to it; in a container often only one of the two names is there.
    for tree in (controllers, "cpu"):
        quota = _read(trees / tree / folder / "cpu.cfs_quota_us")
        if quota:
            return _ratio(quota, _read(trees / tree / folder / "cpu.cfs_period_us"))
    return None


def _ratio(quota: str, period: str) -> float | None:
    """Return quota / period; None where there is no limit, which stands as `max` or -1."""
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
