"""Devices and their memory, as far as the kernel tells: the agent asks too, which never imports torch."""

import os
import re
from pathlib import Path

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_CGROUPS = Path("/sys/fs/cgroup")
LEAST_BYTES = 1 << 30
"""A runner with torch and a small network takes about this much: of the host's memory, and of a GPU's with its context."""


class NoSuchDevice(Exception):
    """This machine does not have the device that was asked for."""


class TooManySlots(Exception):
    """The memory is not enough for this many slots; the message says how many it is enough for."""


def share(memory_bytes: int, slots: int) -> int:
    """Return each slot's share of the memory in bytes; a single slot takes all there is, however little.

    Args:
        memory_bytes: The memory of the device or the host.
        slots: The number of worker processes that share it.

    Raises:
        TooManySlots: A share would be too little to train with.
    """
    each = memory_bytes // slots
    if slots > 1 and each < LEAST_BYTES:
        fit = max(1, memory_bytes // LEAST_BYTES)
        raise TooManySlots(
            f"{slots} slots would have {each / 2**30:.2f} GiB of memory each, but each needs 1 GiB: use --slots {fit} or fewer"
        )
    return each


def choose(wanted: str, cuda_devices: int) -> str:
    """Return the name of the torch device that `auto`, `cpu`, `cuda` or `cuda:N` means on this machine.

    Args:
        wanted: The device that was asked for.
        cuda_devices: The number of CUDA devices that torch sees.

    Raises:
        NoSuchDevice: This machine does not have it; the message says which ones it has.
    """
    if wanted == "auto":
        wanted = "cuda:0" if cuda_devices else "cpu"
    if wanted == "cuda":
        wanted = "cuda:0"
    if wanted == "cpu" or int(wanted.removeprefix("cuda:")) < cuda_devices:
        return wanted
    there = f"cuda:0 to cuda:{cuda_devices - 1}" if cuda_devices else "no CUDA device"
    raise NoSuchDevice(
        f"{wanted} does not exist on this machine: torch sees {there}; use --device cpu or auto"
    )


def several(wanted: str, count: int, cuda_devices: int) -> tuple[str, ...]:
    """Return the names of the torch devices of a worker that trains each trial on several: `wanted` and those after it.

    On a CPU all of them are the same: each is a process of its own.

    Args:
        wanted: The device that was asked for.
        count: The number of devices.
        cuda_devices: The number of CUDA devices that torch sees.

    Raises:
        NoSuchDevice: This machine does not have one of them; the message says which ones it has.
    """
    first = choose(wanted, cuda_devices)
    if first == "cpu":
        return (first,) * count
    number = int(first.removeprefix("cuda:"))
    if number + count > cuda_devices:
        raise NoSuchDevice(
            f"{count} devices from {first} on do not exist on this machine: torch sees cuda:0 to cuda:{cuda_devices - 1}; "
            f"use --devices {cuda_devices - number} or fewer"
        )
    return tuple(f"cuda:{number + place}" for place in range(count))


def host_memory_bytes() -> int:
    """Return the bytes that this process may use: the machine's memory, or the limit of its control group."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _read(_own_cgroup() / "memory.max")
    return min(pages, int(limit)) if limit.strip().isdigit() else pages


def oom_kills() -> int:
    """Count the processes that the kernel killed for lack of memory: in our control group, else on the machine."""
    for path in (_own_cgroup() / "memory.events", Path("/proc/vmstat")):
        match = re.search(r"^oom_kill (\d+)$", _read(path), re.MULTILINE)
        if match:
            return int(match[1])
    return 0


def volunteer_for_oom_kill() -> None:
    """Ask the kernel to kill this process, and not its parent, when memory runs out."""
    # The agent must survive: it reports that the trial ran out of memory, and starts a new runner.
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:
        # Not every kernel or container allows it. The kernel then chooses by size, and a runner is larger than its agent.
        return


def _own_cgroup() -> Path:
    match = re.search(r"^0::/(.*)$", _read(Path("/proc/self/cgroup")), re.MULTILINE)
    return _CGROUPS / match[1] if match else _CGROUPS


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
