"""What lies below a folder: walked once, links followed, hidden entries and folders of metadata left out and told."""

import errno
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from worker.data.errors import LinkLoop
from worker.data.roots import Roots

LeftOut = Mapping[str, Sequence[str]]
"""Paths below the root that are not part of the data set, by the reason."""

HIDDEN = "hidden"
METADATA = "folder of metadata"
NOT_A_FILE = "neither a file nor a folder"

_METADATA_NAMES = frozenset(
    {
        *("__macosx", "__pycache__", "@eadir", "lost+found"),
        *("$recycle.bin", "system volume information"),
    }
)
"""Folders that systems and tools put beside people's files, in small letters."""
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENAMETOOLONG})
"""Errors that belong to one folder. With any other, such as a disk that is away, the walk ends."""

_Identity = tuple[int, int]


@dataclass(slots=True)
class Folder:
    """A folder.

    Attributes:
        path: Its path below the root, without a slash at the end; empty for the root.
        folders: The folders in it, by their names.
        files: The names of the files in it. A folder that may not be read has one, `.`: whoever opens that is told why.
    """

    path: str = ""
    folders: dict[str, "Folder"] = field(default_factory=dict[str, "Folder"])
    files: list[str] = field(default_factory=list[str])

    def own_files(self) -> Sequence[str]:
        """Return the paths of the files in this folder, below the root."""
        return [self.path_of(name) for name in self.files]

    def all_files(self) -> Iterator[str]:
        """Yield the paths of all files in this folder and those below it, below the root."""
        waiting: list[Folder] = [self]
        while waiting:
            folder = waiting.pop()
            yield from folder.own_files()
            waiting.extend(folder.folders.values())

    def path_of(self, name: str) -> str:
        """Return the path of an entry of this folder, below the root."""
        return f"{self.path}/{name}" if self.path else name


def walk(root: Path, roots: Roots | None = None) -> tuple[Folder, LeftOut]:
    """Return all folders and files below a folder, and what was left out.

    Args:
        root: The folder, which may be read.
        roots: The folders that links may lead into; None allows what no roots allow.

    Raises:
        OutsideRoots: A link leads to a folder that may not be read.
        LinkLoop: A link leads to a folder that it is in itself.
        OSError: The root cannot be read, or the disk is in trouble.
    """
    tree = Folder()
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    # A link to a folder around the root leads back to it too, by way of all else that is in there.
    waiting: list[tuple[Folder, tuple[_Identity, ...]]] = [(tree, _around(root))]
    while waiting:
        folder, above = waiting.pop()
        path = root / folder.path
        if folder is not tree:
            (roots or Roots()).check(path, below=root)
        try:
            identity = _identity(path)
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            if folder is tree or error.errno not in _CLOSED:
                raise
            folder.files.append(".")
            continue
        if identity in above:
            raise LinkLoop(path, path.resolve())
        for entry in entries:
            _sort(entry, folder, left_out)
        waiting += [(inner, (*above, identity)) for inner in folder.folders.values()]
    return tree, dict(left_out)


def _sort(entry: os.DirEntry[str], into: Folder, left_out: Mapping[str, list[str]]) -> None:
    path = into.path_of(entry.name)
    is_folder = _is_folder(entry)
    if entry.name.startswith("."):
        left_out[HIDDEN].append(path)
    elif is_folder and entry.name.casefold() in _METADATA_NAMES:
        left_out[METADATA].append(path)
    elif is_folder:
        into.folders[entry.name] = Folder(path)
    elif _may_be_a_file(entry):
        into.files.append(entry.name)
    else:
        # A pipe or a socket: to open it might wait for ever.
        left_out[NOT_A_FILE].append(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # A link in a circle, say.


def _may_be_a_file(entry: os.DirEntry[str]) -> bool:
    try:
        # A link that leads nowhere counts as a file, since nobody can tell what it was: opening it says what is wrong.
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return True


def _around(root: Path) -> tuple[_Identity, ...]:
    found: list[_Identity] = []
    for path in root.resolve().parents:
        with suppress(PermissionError):
            found.append(_identity(path))
    return tuple(found)


def _identity(path: Path) -> _Identity:
    status = path.stat()
    return status.st_dev, status.st_ino
