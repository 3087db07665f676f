"""Writes files that are whole or absent at every moment, whatever kills the writer.

The content goes to a temporary file in the same folder, which is synced and then renamed: a rename within a file system
is atomic. The folder is synced after that, so that the new name survives a power failure as well.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

PART = ".part"
"""The suffix of a file that is not whole yet."""


def write(path: Path, content: bytes) -> None:
    """Write `content` to the file `path`, which replaces an existing one."""
    place(path.with_name(path.name + PART), lambda part: _write(part, content), lambda _: path)


def place(
    part: Path,
    fill: Callable[[Path], object],
    name: Callable[[Path], Path],
    *,
    sync: bool = True,
) -> Path:
    """Write a file under a temporary name, then rename it; return the new path.

    Args:
        part: The temporary path, in the folder that the file belongs in.
        fill: Writes the file at the path that it is given.
        name: Returns the final path, by the content of the temporary file if need be.
        sync: False does without syncing. A crash of the machine (not one of the process) may then leave a file with
            other bytes: enough if every reader checks their hash.

    Raises:
        OSError: The file could not be written; the temporary file is removed.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        fill(part)
        if sync:
            _sync(part)
        path = name(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if sync:
        _sync(path.parent)
    return path


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, read a mebibyte at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
