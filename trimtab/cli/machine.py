"""The devices and the free ports of this machine."""

import os
import socket
import subprocess

TRIES = 20


def devices() -> tuple[str, ...]:
    """Return a name for each visible GPU (`cuda:0`, ...), or `cpu` alone if there is no GPU."""
    gpus = _count_gpus()
    return tuple(f"cuda:{index}" for index in range(gpus)) or ("cpu",)


def free_port(preferred: int, host: str = "127.0.0.1") -> int:
    """Return the preferred port or the next free one above it; 0, which means any, if all of them are taken."""
    ports = range(preferred, min(preferred + TRIES, 65536)) if preferred else ()
    return next((port for port in ports if _is_free(port, host)), 0)


def _count_gpus() -> int:
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    present = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not present or visible is None:
        return present
    names = [name.strip() for name in visible.split(",")]
    # CUDA ignores the first name that is not a device, and all names after it.
    return next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))


def _is_free(port: int, host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
