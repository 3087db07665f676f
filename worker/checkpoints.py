"""Training states on disk: whole or absent, named by step and sha256, never loaded when a byte has changed.

A trial's states lie in `<root>/<trial>/<fence>/<step>-<sha256>.state`. `<trial>` is a hash of all that determines
a training, so that a state left by another study of the same name is never taken for this one's.

None is forced to the disk: a crash of the machine may cost what was not yet uploaded, which is found out by its hash.
The trial is then carried on from its uploaded state, and a winner whose best state is lost is trained again.
"""

import errno
import hashlib
import math
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from trimtab.contract.leases import Checkpoint, Lease
from worker import atomic_files
from worker.pipe_messages import SavedState

KEPT = 2
"""How many of the newest states stay beside the best one."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
Fill = Callable[[Path], str | None]
"""Writes a file, and returns its sha256 where it has hashed what it wrote."""
_NAME = re.compile(r"(?P<step>\d{6})-(?P<sha256>[0-9a-f]{64})\.state")
_PART = f"state{atomic_files.PART}"


def folder_of(root: Path, lease: Lease) -> Path:
    """Return where the states of this attempt belong; those of earlier attempts lie beside it."""
    told = lease.model_dump_json(
        include={"kind", "study", "trial_number", "seed", "task", "model", "teacher", "recipe"}
    )
    trial = hashlib.sha256(told.encode()).hexdigest()[:32]
    return root / trial / f"{lease.fence:06d}"


def save(folder: Path, step: int, fill: Fill, *, best: SavedState | None = None) -> SavedState:
    """Write the state after `step`, and keep of the older ones the newest and the best.

    On a full disk the older ones make room first, and the write is tried once more.

    Raises:
        OSError: it could not be written; the older ones are still there.
    """
    kept = () if best is None else (best.sha256,)
    try:
        saved = _place(folder, step, fill)
    except OSError as error:
        if error.errno not in FULL:
            raise
        prune(folder, keep=kept, newest=1)
        saved = _place(folder, step, fill)
    prune(folder, keep=(*kept, saved.sha256))
    return saved


def states(folder: Path) -> list[SavedState]:
    """List one attempt's states, newest first, by their names alone."""
    return sorted(_listed(folder.glob("*.state")), key=lambda state: -state.step)


def prune(folder: Path, *, keep: Collection[str] = (), newest: int = KEPT) -> None:
    """Remove all but the `newest` states and those whose sha256 is in `keep`."""
    for state in states(folder)[newest:]:
        if state.sha256 not in keep:
            state.path.unlink(missing_ok=True)


def local_copy(folder: Path, checkpoint: Checkpoint) -> SavedState | None:
    """Find a checkpoint in this trial's folders on this machine, and check its bytes."""
    for state in _of_all_attempts(folder):
        if state.sha256 == checkpoint.sha256 and is_whole(state):
            return state
    return None


def earlier(folder: Path, checkpoint: Checkpoint) -> SavedState | None:
    """Find the newest whole state before `checkpoint`: what to fall back on when that one is gone."""
    return next(
        (
            state
            for state in sorted(_of_all_attempts(folder), key=lambda state: -state.step)
            if state.step < checkpoint.step and is_whole(state)
        ),
        None,
    )


def path_for(folder: Path, checkpoint: Checkpoint) -> Path:
    """Return where a downloaded checkpoint belongs."""
    return folder / f"{checkpoint.step:06d}-{checkpoint.sha256}.state"


def is_whole(state: SavedState) -> bool:
    """Tell whether the file still has the bytes that its name promises."""
    try:
        return atomic_files.sha256_of(state.path) == state.sha256
    except OSError:
        return False


def discard_trial(folder: Path) -> None:
    """Remove all that this machine keeps of the trial."""
    shutil.rmtree(folder.parent, ignore_errors=True)


def discard_attempt(folder: Path) -> None:
    """Remove what this attempt left; another one owns the trial now."""
    shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path, *, older_than: float) -> None:
    """Remove the trials in which nothing was written since `older_than` (seconds since the epoch).

    A paused or failed trial is carried on from its uploaded checkpoint, so what is kept here is only a copy.
    """
    for trial in root.glob("*"):
        if _changed_at(trial) < older_than:
            shutil.rmtree(trial, ignore_errors=True)


def disk_use(root: Path) -> int:
    """Return how many bytes the states of all trials take on this machine."""
    return sum(_size(path) or 0 for path in root.glob("*/*/*"))


def _place(folder: Path, step: int, fill: Fill) -> SavedState:
    told: list[str | None] = []

    def name(part: Path) -> Path:
        return folder / f"{step:06d}-{told[0] or atomic_files.sha256_of(part)}.state"

    path = atomic_files.place(
        folder / _PART, lambda part: told.append(fill(part)), name, sync=False
    )
    return next(_listed([path]))


def _of_all_attempts(folder: Path) -> Iterator[SavedState]:
    return _listed(folder.parent.glob("*/*.state"))


def _listed(paths: Collection[Path] | Iterator[Path]) -> Iterator[SavedState]:
    for path in paths:
        match = _NAME.fullmatch(path.name)
        size = _size(path)
        if match is not None and size is not None:
            yield SavedState(
                path=path, step=int(match["step"]), sha256=match["sha256"], bytes=size
            )


def _size(path: Path) -> int | None:
    """None of a file that somebody has just removed."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _changed_at(trial: Path) -> float:
    try:
        return max(entry.stat().st_mtime for entry in (trial, *trial.glob("*")))
    except OSError:
        # Another worker of this machine is at it.
        return math.inf
