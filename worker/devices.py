"""Which device, and how much memory: as far as the kernel tells, without torch."""

import os
import re
from pathlib import Path

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_CGROUPS = Path("/sys/fs/cgroup")
LEAST_BYTES = 1 << 30
"""A runner with torch and a small network takes about as much of the host's memory, and of a GPU's with its context."""


class NoSuchDevice(Exception):
    """The device that was asked for is not on this machine."""


class TooManySlots(Exception):
    """The memory is not enough for so many slots; the message says for how many it is."""


def share(memory_bytes: int, slots: int) -> int:
    """Return the memory of each of several slots; one takes all there is, however little.

    Raises:
        TooManySlots: it would be too little to train with.
    """
    each = memory_bytes // slots
    if slots > 1 and each < LEAST_BYTES:
        fit = max(1, memory_bytes // LEAST_BYTES)
        raise TooManySlots(
            f"{slots} slots would have {each / 2**30:.2f} GiB of memory each, and need 1 GiB: use --slots {fit} or fewer"
        )
    return each


def choose(wanted: str, cuda_devices: int) -> str:
    """Turn what was asked for (`auto`, `cpu`, `cuda`, `cuda:N`) into a torch device.

    Raises:
        NoSuchDevice: it is not here; the message says what is.
    """
    if wanted == "auto":
        wanted = "cuda:0" if cuda_devices else "cpu"
    if wanted == "cuda":
        wanted = "cuda:0"
    if wanted == "cpu" or int(wanted.removeprefix("cuda:")) < cuda_devices:
        return wanted
    there = f"cuda:0 to cuda:{cuda_devices - 1}" if cuda_devices else "no CUDA device"
    raise NoSuchDevice(
        f"there is no {wanted} here: torch sees {there}; use --device cpu or auto"
    )


def host_memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or what its control group allows."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _read(_own_cgroup() / "memory.max")
    return min(pages, int(limit)) if limit.strip().isdigit() else pages


def oom_kills() -> int:
    """Count the processes that the kernel has killed for want of memory, in our control group or else anywhere."""
    for path in (_own_cgroup() / "memory.events", Path("/proc/vmstat")):
        match = re.search(r"^oom_kill (\d+)$", _read(path), re.MULTILINE)
        if match:
            return int(match[1])
    return 0


def volunteer_for_oom_kill() -> None:
    """Ask the kernel to kill this process before its parent when memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:
        # Not every kernel or container has it; then the kernel chooses by size, which is most likely us too.
        return


def _own_cgroup() -> Path:
    match = re.search(r"^0::/(.*)$", _read(Path("/proc/self/cgroup")), re.MULTILINE)
    return _CGROUPS / match[1] if match else _CGROUPS


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
