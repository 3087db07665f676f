"""Which processes run on a Postgres data folder, told by what they are and never by a noted pid."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path


def runs_in(pid: int, folder: Path) -> bool:
    """Whether process `pid` is a postgres whose working folder is `folder`: every process of a server is, and no other.

    A pid alone proves nothing: the one in a stale postmaster.pid may belong to somebody else by now.
    """
    try:
        executable = Path(f"/proc/{pid}/exe").readlink().name.removesuffix(" (deleted)")
        return executable == "postgres" and Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def processes_in(folder: Path) -> list[int]:
    """The pids of all postgres processes that use `folder`; without /proc only a postmaster is found."""
    if Path("/proc/self/exe").exists():
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return [pid for pid in pids if runs_in(pid, folder)]
    listing = subprocess.run(
        ["ps", "-axo", "pid=,command="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split(maxsplit=1) for line in listing.splitlines())
    return [int(pid) for pid, command in rows if f"/postgres -D {folder} " in command]


def send(pid: int, folder: Path, number: signal.Signals) -> None:
    """Signal `pid` if it is a postgres of `folder`; on Linux by a pidfd, so that the pid cannot be reused in between."""
    if not hasattr(os, "pidfd_open"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if runs_in(pid, folder):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def clear_away(folder: Path) -> None:
    """End what an earlier server left running on `folder`, then drop its postmaster.pid.

    Two servers on one folder would destroy it, and a stale pid that somebody else has now would block the start.
    """
    if not folder.exists():
        return
    for number in (signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + 6.0
        for pid in processes_in(folder):
            send(pid, folder, number)
        while processes_in(folder) and time.monotonic() < deadline:
            time.sleep(0.02)
    (folder / "postmaster.pid").unlink(missing_ok=True)
