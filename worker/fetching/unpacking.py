"""Unpacks archives from elsewhere: ordinary files alone, below one folder, and not more than there is room for."""

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from worker.fetching.errors import ArchiveUnreadable, ArchiveUnsafe
from worker.fetching.transfers import CHUNK_BYTES

WHOLE = "data"
"""The name of a file that is no archive."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_RESOURCES = "__MACOSX"
"""The folder that macOS puts beside what it packs, with a file for each file."""

Grow = Callable[[int], None]
"""Is called with the number of bytes that are about to be written, and raises to give up."""


def unpack(file: Path, folder: Path, address: str, grow: Grow) -> None:
    """Make a folder of what was fetched: the files of an archive, or the one file that it is.

    What it is is told by its first bytes, since an address need not end in a name.

    Args:
        file: The file that was fetched; one that is no archive is moved away.
        folder: An empty folder.
        address: The address, for messages.
        grow: Is called before each piece is written.

    Raises:
        ArchiveUnreadable: It is broken, or packed in a way that is not read.
        ArchiveUnsafe: It has links, devices, or names that lead out of it.
    """
    with file.open("rb") as opened:
        head = opened.read(8)
    with _named(address):
        if head.startswith(_ZIP):
            _unzip(file, folder, address, grow)
        elif tarfile.is_tarfile(file):
            _untar(file, folder, address, grow)
        elif packed := [name for mark, name in _PACKED.items() if head.startswith(mark)]:
            raise ArchiveUnreadable(address, f"it is packed by {packed[0]}, and no tar file")
        else:
            file.rename(folder / WHOLE)
    if not any(folder.iterdir()):
        raise ArchiveUnreadable(address, "there is nothing in it")


def _untar(file: Path, folder: Path, address: str, grow: Grow) -> None:
    with tarfile.open(file, "r|*") as archive:
        for member in archive:
            # A stream keeps what it has seen, which of millions of files is much.
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - documented by its source alone
            if not (member.isfile() or member.isdir()):
                raise ArchiveUnsafe(address, member.name, "is a link or a device")
            place = _place(folder, member.name, address)
            if place is None or member.isdir():
                _make(place)
                continue
            content = archive.extractfile(member)
            if content is not None:
                _write(content, place, grow)


def _unzip(file: Path, folder: Path, address: str, grow: Grow) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveUnsafe(address, member.filename, "is a link or a device")
            place = _place(folder, member.filename, address)
            if place is None or member.is_dir():
                _make(place)
                continue
            with archive.open(member) as content:
                _write(content, place, grow)


def _place(folder: Path, name: str, address: str) -> Path | None:
    """Return where a member belongs; None where it is left out."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ArchiveUnsafe(address, name, "leads out of it")
    return None if parts[:1] == (_RESOURCES,) else folder.joinpath(*parts)


def _make(folder: Path | None) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)


def _write(content: IO[bytes], place: Path, grow: Grow) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    # Counted as it is written: what an archive says of its sizes need not be true.
    with place.open("wb") as file:
        while piece := content.read(CHUNK_BYTES):
            grow(len(piece))
            file.write(piece)


@contextmanager
def _named(address: str) -> Generator[None]:
    """Raise what a broken archive meets as `ArchiveUnreadable`."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError) as error:
        raise ArchiveUnreadable(address, str(error) or "it ends too early") from error
    except (RuntimeError, NotImplementedError) as error:
        # How zipfile tells of a password, and of ways of packing that it does not know.
        raise ArchiveUnreadable(address, str(error)) from error
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        name = os.path.basename(error.filename or "")  # noqa: PTH119 - may be no path
        raise ArchiveUnreadable(address, f"{name!r} is a file and a folder") from error
