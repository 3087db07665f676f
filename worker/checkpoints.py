"""Checkpoints on disk: whole or absent, named by step and sha256, never loaded when a byte has changed.

A trial's states are the files `<root>/<trial>/<fence>/<step>-<sha256>.state`. `<trial>` is a hash of all that determines
a training, so that a state of another study of the same name is never taken for this one's.

States are written without fsync, which would make training wait for the disk. A crash of the machine may damage a state
that was not uploaded yet; its hash shows that. The trial is then resumed from its uploaded state, and a winner whose
best state is lost is trained again.
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
"""The number of newest states that are kept, in addition to the best one."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
Fill = Callable[[Path], str | None]
"""Writes a file; returns its sha256 if it was computed while writing."""
_NAME = re.compile(r"(?P<step>\d{6})-(?P<sha256>[0-9a-f]{64})\.state")
_PART = f"state{atomic_files.PART}"


def folder_of(root: Path, lease: Lease) -> Path:
    """Return the folder for the states of this attempt; earlier attempts have folders next to it."""
    identity = lease.model_dump_json(
        include={"kind", "study", "trial_number", "seed", "task", "model", "teacher", "recipe"}
    )
    trial = hashlib.sha256(identity.encode()).hexdigest()[:32]
    # Each attempt writes to a folder of its own: one that has lost its lease, and does not know it yet, must not touch the
    # files of the attempt after it.
    return root / trial / f"{lease.fence:06d}"


def save(folder: Path, step: int, fill: Fill, *, best: SavedState | None = None) -> SavedState:
    """Write the state after `step`; of the older states, keep the newest and the best.

    If the disk is full, older states are removed and the write is tried once more.

    Raises:
        OSError: The state could not be written; the newest and the best older state are still there.
    """
    kept = () if best is None else (best.sha256,)
    try:
        saved = _place(folder, step, fill)
    except OSError as error:
        if error.errno not in FULL:
            raise
        # Room is made from this attempt's own states only: those of other trials may be in use.
        prune(folder, keep=kept, newest=1)
        saved = _place(folder, step, fill)
    prune(folder, keep=(*kept, saved.sha256))
    return saved


def states(folder: Path) -> list[SavedState]:
    """List one attempt's states, newest first, by their names; their bytes are not checked."""
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
    """Find the newest whole state before `checkpoint`, to fall back on if that one is lost."""
    return next(
        (
            state
            for state in sorted(_of_all_attempts(folder), key=lambda state: -state.step)
            if state.step < checkpoint.step and is_whole(state)
        ),
        None,
    )


def path_for(folder: Path, checkpoint: Checkpoint) -> Path:
    """Return the path for a downloaded checkpoint."""
    return folder / f"{checkpoint.step:06d}-{checkpoint.sha256}.state"


def is_whole(state: SavedState) -> bool:
    """Tell whether the file still has the bytes that its name promises."""
    try:
        return atomic_files.sha256_of(state.path) == state.sha256
    except OSError:
        return False


def discard_trial(folder: Path) -> None:
    """Remove all states of the trial on this machine, those of earlier attempts included."""
    shutil.rmtree(folder.parent, ignore_errors=True)


def discard_attempt(folder: Path) -> None:
    """Remove the states of this attempt only: another attempt, perhaps on this machine, has the trial now."""
    shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path, *, older_than: float) -> None:
    """Remove the folders of trials in which nothing was written since `older_than` (Unix time in seconds).

    A paused or failed trial is resumed from its uploaded checkpoint, so the states here are only copies.
    """
    for trial in root.glob("*"):
        if _changed_at(trial) < older_than:
            shutil.rmtree(trial, ignore_errors=True)


def disk_use(root: Path) -> int:
    """Return the bytes that the states of all trials take on this machine."""
    return sum(_size(path) or 0 for path in root.glob("*/*/*"))


def _place(folder: Path, step: int, fill: Fill) -> SavedState:
    hashed: list[str | None] = []

    def name(part: Path) -> Path:
        return folder / f"{step:06d}-{hashed[0] or atomic_files.sha256_of(part)}.state"

    path = atomic_files.place(
        folder / _PART, lambda part: hashed.append(fill(part)), name, sync=False
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
    """Return a file's bytes, or None if another process has just removed it."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _changed_at(trial: Path) -> float:
    try:
        return max(entry.stat().st_mtime for entry in (trial, *trial.glob("*")))
    except OSError:
        # Another worker of this machine is just writing or removing it: not old, as far as we can tell.
        return math.inf
