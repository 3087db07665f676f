"""Decoded samples on disk, memory-mapped, shared by all trials and processes of a machine.

cache_dir/
├── facts/<source>.json       what reading every file once told: its hash, and its modality's facts
├── texts/<source>/           the same of a table of texts, with all its tokens (`text/token_store.py`)
└── <key>/                    one data set, split and encoding; appears whole, by rename
    ├── manifest.json
    └── train.npy  train.labels.npy  train.draws.npy  validation.npy  ...  test.labels.npy
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker import disk_cache
from worker.data.errors import CacheUnwritable
from worker.data.modality import Encoding

Stored = NDArray[np.uint8 | np.int32]
Labels = NDArray[np.int64 | np.float64]


@dataclass(frozen=True, slots=True)
class Split:
    """Labelled samples, as their modality encodes them.

    Attributes:
        inputs: Samples `(N, ...)`, of pictures uint8 `(N, H, W, C)`; mapped from disk, so that writing to it changes
            this process's copy only.
        labels: int64 `(N,)` for a single classification, positions in the task's classes; else float64
            `(N, targets)`: class positions, numbers, 0 and 1, and NaN where a label is not known.
        rows: int64 `(N,)`: the places in `inputs` that the labels belong to, where not all samples are to be seen.
    """

    inputs: Stored
    labels: Labels
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def open_split(folder: Path, part: str) -> Split:
    """Map one split of a cached data set."""
    # Mapped: all processes of the machine share one copy in memory, and a data set may be larger than the memory.
    # Copy on write: torch warns about memory it could not write to, and no one else must see a change.
    return Split(
        inputs=np.load(folder / f"{part}.npy", mmap_mode="c"),
        labels=np.load(folder / f"{part}.labels.npy"),
    )


def write_split(
    folder: Path,
    part: str,
    samples: Iterable[NDArray[Any]],
    labels: Labels,
    encoding: Encoding,
) -> None:
    """Write one split, sample by sample.

    Args:
        folder: The folder that the files are written into.
        part: The name of the split.
        samples: The encoded samples in the order of `labels`. If there are fewer, the file is cut short and no use.
        labels: The labels of all samples, `(N,)` or `(N, targets)`.
        encoding: The dtype and the shape of each sample.
    """
    shape = (len(labels), *encoding.shape)
    write_array(folder / f"{part}.npy", samples, np.dtype(encoding.dtype), shape)
    np.save(folder / f"{part}.labels.npy", labels)


def write_array(
    path: Path, pieces: Iterable[NDArray[Any]], dtype: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    """Write an ordinary .npy file piece by piece, so that `np.load` maps it.

    A full disk is then an error, where writing to a mapping would kill the process.

    Args:
        path: The file.
        pieces: The parts of the array in C order, of its dtype.
        dtype: The type of its numbers.
        shape: The shape of the whole.
    """
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(piece.tobytes())


def hold(folder: Path) -> disk_cache.Hold | None:
    """Keep a folder of the cache from being removed, for as long as what is returned is kept."""
    try:
        return disk_cache.hold(folder)
    except OSError:
        # A cache that may only be read: nobody who may not write to it collects from it either.
        return None


def json_once(path: Path, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Read a JSON object; where there is none, make it and keep it."""
    if not path.exists():
        with _building(path) as beside:
            # Asked again under the lock: another process may have made it while this one waited.
            if not path.exists():
                beside.write_text(json.dumps(make()))
                _flush(beside)
                beside.rename(path)
    disk_cache.note_use(path)
    return json.loads(path.read_text())


def folder_once(path: Path, fill: Callable[[Path], None], *, sync: bool = True) -> Path:
    """Return a folder; where there is none, let `fill` make its files and show them all at once.

    One process fills, the others on this machine wait for it; a fill that dies leaves nothing that could be
    taken for the whole. Without `sync` a crash of the machine may: enough where whoever reads checks what is there.
    """
    if not path.exists():
        with _building(path) as beside:
            if not path.exists():
                beside.mkdir()
                fill(beside)
                # To the disk first: a rename may get there before the content, and after a crash of the machine the
                # folder would be there with empty files.
                for file in beside.iterdir() if sync else ():
                    _flush(file)
                beside.rename(path)
    disk_cache.note_use(path)
    return path


@contextmanager
def _building(path: Path) -> Generator[Path]:
    """Keep others from making `path` meanwhile; yield a place beside it, which is empty before and after."""
    # In the same folder, and so on the same file system: only there is a rename one step that shows all or nothing.
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A lock of the system, which goes with its process however that ends. Its file stays: to remove it would let
        # one process lock the old file while another locks a new one.
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _remove(beside)  # Whoever left it is dead: the lock went with them.
            try:
                yield beside
            finally:
                _remove(beside)
    except OSError as error:
        raise CacheUnwritable(path.parent, error.strerror or str(error)) from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
