"""Trials that this machine has put aside: their states stay here for a while, so that who takes one up needs no download.

The service has these states as well. What is kept here is bound in number and in bytes, the latest first; the mark of a
trial that was put aside is a file in its folder, so that no worker of the machine removes a trial that another one runs.
"""

import shutil
from pathlib import Path

MARK = "put-aside"
MOST = 32
"""The number of trials put aside whose states are kept."""
MOST_BYTES = 4 * 2**30
"""The bytes that these may take; the latest is kept in any case."""


def put_aside(folder: Path) -> None:
    """Note that the trial of this attempt was put aside, and remove the states of those that were so the longest ago."""
    mark = folder.parent / MARK
    if folder.parent.is_dir():
        mark.touch()
        make_room(folder.parent.parent)


def take_up(folder: Path) -> None:
    """Note that the trial of this attempt runs again: its states are in use."""
    (folder.parent / MARK).unlink(missing_ok=True)


def make_room(root: Path, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
    """Remove the states of all trials put aside but the latest.

    Args:
        root: the folder that has one folder for each trial.
        most: the number of trials to keep.
        most_bytes: the bytes that these may take together.
    """
    taken = 0
    for place, mark in enumerate(sorted(root.glob(f"*/{MARK}"), key=_age)):
        taken += _bytes_in(mark.parent)
        is_over = place > 0 and (place >= most or taken > most_bytes)
        if is_over and mark.exists():  # else another worker has just taken it up
            shutil.rmtree(mark.parent, ignore_errors=True)


def _age(mark: Path) -> tuple[int, str]:
    """Return what sorts the latest first, and last what another worker has just taken up."""
    try:
        return -mark.stat().st_mtime_ns, mark.parent.name
    except OSError:
        return 1, mark.parent.name


def _bytes_in(trial: Path) -> int:
    total = 0
    for path in trial.glob("*/*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue  # another worker has just removed it
    return total
