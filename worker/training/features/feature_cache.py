"""What frozen networks make of data sets, on disk: computed once on a machine, for all trials and processes.

cache_dir/<key>/ appears whole, by rename, and is not forced to the disk: what a crash of the machine does to it, the
checksum tells. It holds
├── manifest.json    shape, dtype and checksum
└── values           the tensor's bytes
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from worker import disk_cache
from worker.data import cache
from worker.data.cache import folder_once
from worker.data.errors import CacheUnwritable

log = logging.getLogger(__name__)

LIMIT_BYTES = 8 * 2**30
_HELD = 4
"""Tensors that stay mapped: both splits of two tasks."""


class FeatureCache:
    """Tensors by key, memory-mapped; the longest unused make room for new ones.

    Args:
        folder: The folder that holds the tensors; several processes may share it.
        limit_bytes: The most bytes of the disk that they may take together.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._folder = folder
        self._held: OrderedDict[str, _Kept] = OrderedDict()

    def get(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """Return the tensor of `key`; where there is none, or a damaged one, `make` it.

        Args:
            key: All that the values depend on.
            make: Computes them. Must be a function of `key`: what it returns is kept for everybody.
        """
        # A tensor that stays mapped costs nothing at the next trial, not even its checksum. Only a few do: what is
        # mapped keeps its disk space even after another process has removed the entry.
        if key not in self._held:
            self._held[key] = self._keep(key, make)
        self._held.move_to_end(key)
        while len(self._held) > _HELD:
            self._held.popitem(last=False)
        return self._held[key].values

    def _keep(self, key: str, make: Callable[[], Tensor]) -> "_Kept":
        # Kept before it is opened: nobody removes it in between.
        hold = cache.hold(self._path_of(key))
        return _Kept(self._open_or_make(key, make), hold)

    def _path_of(self, key: str) -> Path:
        # The key is long and has characters that a file name must not have; its hash names the folder.
        return self._folder / hashlib.sha256(key.encode()).hexdigest()

    def _open_or_make(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        path = self._path_of(key)
        if path.exists() and (found := _open(path)) is not None:
            return found
        made: list[Tensor] = []

        def fill(folder: Path) -> None:
            made.append(make())
            _write(folder, made[0])

        try:
            # Another process may have repaired it meanwhile; then this costs one more computation.
            shutil.rmtree(path, ignore_errors=True)
            found = _open(folder_once(path, fill, sync=False))
            self._make_room(path)
        except CacheUnwritable as error:
            log.warning("features stay in memory: %s", error)
            found = None
        if found is not None:
            return found
        # The disk is full, or has damaged what was just written: this training does not need the disk.
        return made[0] if made else make()

    def _make_room(self, newest: Path) -> None:
        # By time of last use: `_open` sets it. Who has an entry mapped keeps its content after the folder is gone.
        entries = sorted(_entries(self._folder))
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self.limit_bytes:
                return
            if path != newest:
                shutil.rmtree(path, ignore_errors=True)
                total -= size


@dataclass(frozen=True, slots=True)
class _Kept:
    """A tensor that stays mapped, and what keeps its file."""

    values: Tensor
    hold: disk_cache.Hold | None


def _entries(folder: Path) -> list[tuple[float, int, Path]]:
    """Return the time of last use in seconds, the size in bytes and the path of every entry.

    Entries that another process removes meanwhile are left out.
    """
    found: list[tuple[float, int, Path]] = []
    for path in folder.iterdir():
        try:
            # Names with a dot are locks and entries that are being made.
            if path.is_dir() and path.name[0] != ".":
                size = sum(file.stat().st_size for file in path.iterdir())
                found.append((path.stat().st_mtime, size, path))
        except OSError:
            continue
    return found


def _write(folder: Path, values: Tensor) -> None:
    raw = values.contiguous().flatten().view(torch.uint8).numpy().data
    (folder / "values").write_bytes(raw)
    manifest = {
        "shape": list(values.shape),
        "dtype": str(values.dtype).removeprefix("torch."),
        "crc32": zlib.crc32(raw),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _open(folder: Path) -> Tensor | None:
    """Map an entry and note its use; None where it is damaged."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        shape, dtype = manifest["shape"], getattr(torch, manifest["dtype"])
        path = folder / "values"
        if path.stat().st_size != prod(shape) * dtype.itemsize:
            raise ValueError("it is cut short")
        # Not shared: what a process writes to it changes its own copy only.
        values = torch.from_file(str(path), shared=False, size=prod(shape), dtype=dtype)
        # A wrong feature would make every later trial a little worse, and nobody would see it. To read the file once
        # costs far less than to compute it, and brings it into memory for the training.
        if zlib.crc32(values.view(torch.uint8).numpy().data) != manifest["crc32"]:
            raise ValueError("its checksum is wrong")
        os.utime(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        log.warning("%s is computed again: %s", folder, error)
        return None
    return values.view(shape)
