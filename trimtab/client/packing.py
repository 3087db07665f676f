"""What is uploaded of a data set: a file as it is, a folder as a tar file whose bytes follow from its files alone.

A folder is packed as it is sent, a file at a time: no second copy of it is written, and the same files make the same bytes
on every machine, whatever their owners, times and rights.
"""

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20
_BLOCK = 512
_END = bytes(2 * _BLOCK)


class CannotPack(OSError):
    """A folder with what is no file and no folder, or that leads back into itself."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What is to be uploaded.

    Attributes:
        path: The file or folder.
        sha256: The hash of the bytes.
        size: The number of the bytes.
        files: The number of files.
    """

    path: Path
    sha256: str
    size: int
    files: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes once more; other bytes, if a file has changed since."""
        return _chunks(self.path)


def pack(path: Path) -> Packed:
    """Read a file or folder, and say what it is packed as.

    Raises:
        OSError: It is not there, cannot be read, or is nothing that can be packed (`CannotPack`).
    """
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(path):
        digest.update(chunk)
        size += len(chunk)
    files = sum(file.is_file() for file in _inside(path)) if path.is_dir() else 1
    if files == 0:
        raise CannotPack(f"{path}: there is not one file in this folder")
    return Packed(path, digest.hexdigest(), size, files)


def _chunks(path: Path) -> Iterator[bytes]:
    if not path.is_dir():
        yield from _content(path)
        return
    for each in _inside(path):
        name = each.relative_to(path).as_posix()
        member = tarfile.TarInfo(name)
        member.type = tarfile.DIRTYPE if each.is_dir() else tarfile.REGTYPE
        member.size = 0 if each.is_dir() else each.stat().st_size
        member.mode = 0o755 if each.is_dir() else 0o644
        yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if not each.is_dir():
            yield from _content(each)
            yield bytes(-member.size % _BLOCK)
    yield _END


def _content(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            yield chunk


def _inside(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield what is below a folder in the order of the names, each folder before what is in it; links are followed."""
    real = folder.resolve()
    if real in above:
        raise CannotPack(f"{folder}: a link leads back to a folder that it lies in; remove it")
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names, to be put in order
        path = folder / name
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise CannotPack(f"{path}: is neither a file nor a folder; take it away")
        yield path
        if stat.S_ISDIR(mode):
            yield from _inside(path, (*above, real))
