"""The bound of what a machine's workers keep on disk to have it at hand: fetched data, decoded samples, features.

cache_dir/
├── data/       decoded data sets, with texts/ and facts/
├── features/   what frozen layers make of them
└── fetched/    data sets from elsewhere, with downloads/, which are not whole yet

Each entry, a file or a folder, has a file `.NAME.used` beside it: it was changed when the entry was used last, whoever
uses the entry holds a shared lock on it, and it says how many bytes a folder takes. What is longest unused goes first,
and what somebody uses stays. Locks are the system's, and go with their process however that ends.
"""

import fcntl
import math
import os
import shutil
import time
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOMS = ("data", "data/texts", "data/facts", "features", "fetched", "fetched/downloads")
_NO_ENTRIES = frozenset({"texts", "facts", "downloads", "addresses"})
FREE_SHARE, FREE_BYTES = 0.1, 10**10
"""Where no bound is set, a tenth of the disk stays free, or 10 GB where that is less."""
KEPT_S = 3600.0
"""Where no bound is set, what was used within so many seconds stays: a disk that others fill is no reason to make it anew
for each trial."""
_GATE = ".opening"
_GONE = ".gone"
"""How the name of an entry ends that is being removed."""


class Hold:
    """Keeps an entry from being removed, until it is released or forgotten.

    Args:
        descriptor: The descriptor of the locked file.
    """

    def __init__(self, descriptor: int) -> None:
        self._close = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Let the entry go; to do so twice is harmless."""
        self._close()


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that can be removed.

    Attributes:
        used_at: The time of its last use (Unix time in seconds).
        bytes: The bytes that it takes.
        path: Its file or folder.
    """

    used_at: float
    bytes: int
    path: Path


def hold(path: Path) -> Hold:
    """Keep an entry, which need not be there yet, and note that it is used now."""
    used = _used_of(path)
    used.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(used, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            os.utime(descriptor)
            # Whoever removed the entry took this file along: a lock on what has no name any more keeps nothing.
            if _is_named(descriptor, used):
                return Hold(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def note_use(path: Path, size: int | None = None) -> None:
    """Note that an entry is used now, and how many bytes it takes where that is known."""
    # Not to know when it was used is no reason to fail: the cache may be another user's, and only be read.
    with suppress(OSError):
        used = _used_of(path)
        used.touch()
        if size is not None:
            used.write_text(str(size))


@contextmanager
def opening(room: Path) -> Generator[None]:
    """Keep every entry of a room meanwhile: for those who find out only as they go which ones they need."""
    # A room that is not there has nothing that could go, and whoever finds no data makes none.
    descriptor = _locked(room / _GATE, fcntl.LOCK_SH) if room.exists() else None
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def collect(root: Path, limit_bytes: int | None, *, beside: int = 0, need: int = 0) -> int:
    """Remove what is longest unused until the bound is kept; return the bytes by which it cannot be.

    Args:
        root: The worker's cache.
        limit_bytes: The bound; None leaves a part of the disk free, as far as what was not used lately can give it.
        beside: The bytes on disk that are not entries yet, and count.
        need: The bytes that are about to be written.
    """
    entries = sorted(_entries(root), key=lambda entry: entry.used_at)
    over, before = need - _free(root), time.time() - KEPT_S
    if limit_bytes is not None:
        over, before = (
            sum(entry.bytes for entry in entries) + beside + need - limit_bytes,
            math.inf,
        )
    for entry in entries:
        if over <= 0 or entry.used_at > before:
            break
        if _remove(entry.path):
            over -= entry.bytes
    if limit_bytes is None:
        return max(0, need - shutil.disk_usage(root).free)
    return max(0, over)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(
        (Path(folder) / name).stat().st_size
        for folder, _, names in os.walk(path)
        for name in names
    )


def _entries(root: Path) -> Iterator[Entry]:
    for room in ROOMS:
        with suppress(FileNotFoundError):
            for path in (root / room).iterdir():
                if path.name.endswith(_GONE):
                    _discard(path)
                elif path.name[0] != "." and path.name not in _NO_ENTRIES:
                    # Another process may just be removing it.
                    with suppress(OSError):
                        yield _entry(path)


def _entry(path: Path) -> Entry:
    used = _used_of(path)
    used_at = used.stat().st_mtime if used.exists() else path.stat().st_mtime
    if not path.is_dir():
        return Entry(used_at, path.stat().st_size, path)
    text = used.read_text() if used.exists() else ""
    if not text.isdecimal():
        text = str(size_of(path))
        used.write_text(text)
        os.utime(used, (used_at, used_at))
    return Entry(used_at, int(text), path)


def _free(root: Path) -> int:
    """Return the free bytes of the disk beside those that are to stay free; below 0, some are wanted back."""
    disk = shutil.disk_usage(root)
    return disk.free - int(min(FREE_SHARE * disk.total, FREE_BYTES))


def _remove(path: Path) -> bool:
    """Remove an entry that nobody uses; False where somebody does."""
    room = path.parent if path.parent.name not in _NO_ENTRIES else path.parent.parent
    gate = _locked(room / _GATE, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if gate is None:
        return False
    try:
        used = _used_of(path)
        lock = _locked(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is None:
            return False
        try:
            # First out of sight, in one step: nobody ever finds a part of it.
            gone = path.with_name(f".{path.name}{_GONE}")
            path.rename(gone)
            _discard(gone)
            used.unlink(missing_ok=True)
        finally:
            os.close(lock)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    finally:
        os.close(gate)
    return True


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _locked(path: Path, how: int) -> int | None:
    """Return the descriptor of a file with this lock on it; None where another has it, or it cannot be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _used_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.used")
