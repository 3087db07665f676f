"""Files that are whole or absent at every moment, whatever kills the writer: beside, fsync, rename, fsync."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

PART = ".part"
"""How a file ends that is not whole yet."""


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path`, replacing what was there."""
    place(path.with_name(path.name + PART), lambda part: _write(part, content), lambda _: path)


def place(
    part: Path,
    fill: Callable[[Path], object],
    name: Callable[[Path], Path],
    *,
    sync: bool = True,
) -> Path:
    """Let `fill` write the file `part`, make it durable, and rename it to what `name` says of its content.

    Without `sync` a crash of the machine, unlike one of the process, may leave other bytes there: enough where whoever
    reads them checks their hash.

    Raises:
        OSError: it could not be written; nothing is left of it.
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
