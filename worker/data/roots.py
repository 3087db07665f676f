"""Which files a study may make this worker read: those below the folders that whoever runs the worker has named.

A study names files by their paths: a folder of pictures, a table and in each of its rows a picture, weights, a teacher.
Every one of these paths is resolved here before anybody asks whether the file exists.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from worker.data.errors import OutsideRoots

_NEVER = ("/proc", "/sys", "/dev")
"""What the kernel shows there are no data, and to read some of it waits for ever or changes the machine."""
_MEMORY = "/dev/shm"  # noqa: S108 - no temporary file is made there
"""Files in memory, where people keep data to have them at hand."""


@dataclass(frozen=True)
class Roots:
    """The folders that may be read; none allows all but what the kernel shows.

    It remembers where the folders of pictures lead: made anew for each look at a data set, it sees links that have changed.

    Attributes:
        folders: The folders, with all links resolved.
    """

    folders: tuple[str, ...] = ()
    _known: dict[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)

    @classmethod
    def of(cls, folders: Iterable[Path]) -> "Roots":
        """Return the roots of these folders, which need not exist."""
        return cls(tuple(_real(folder) for folder in folders))

    def resolve(self, path: str | Path) -> Path:
        """Return a path that a study names, with all links resolved.

        Raises:
            OutsideRoots: It leads out of the folders that may be read, whether there is a file or not.
        """
        resolved = _real(path)
        if not self._allow(resolved):
            raise OutsideRoots(path, self.folders)
        return Path(resolved)

    def allow(self, path: str) -> bool:
        """Tell whether a path, whose links are followed, may be read; quick for many files of one folder."""
        folder, _, name = path.rpartition("/")
        # A table may list a million pictures: a folder is resolved once, and a picture only if it is a link.
        if name in ("", ".", "..") or os.path.islink(path):  # noqa: PTH114 - asked of every row of a table
            return self._allow(os.path.realpath(path))
        if folder not in self._known:
            self._known[folder] = os.path.realpath(folder or "/")
        return self._allow(f"{self._known[folder]}/{name}")

    def check(self, path: Path, *, below: Path) -> Path:
        """Return the path of a file of a data set, if it may be read.

        Args:
            path: The file.
            below: The data set's folder, which may be read.

        Raises:
            OutsideRoots: A link leads out of the folders that may be read; the message names the link alone.
        """
        if self.allow(str(path)):
            return path
        inner = [each for each in (*reversed(path.parents), path) if below in each.parents]
        link = next((each for each in inner if not self.allow(str(each))), path)
        raise OutsideRoots(link, self.folders)

    def _allow(self, resolved: str) -> bool:
        if _is_below(resolved, _NEVER) and not _is_below(resolved, (_MEMORY,)):
            return False
        return not self.folders or _is_below(resolved, self.folders)


def _real(path: str | Path) -> str:
    # `Path.expanduser` raises for a user that is not there, which would tell who is.
    return os.path.realpath(os.path.expanduser(path))  # noqa: PTH111


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(
        path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders
    )
