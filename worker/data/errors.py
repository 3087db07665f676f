"""What can be wrong with a data set; each message says what, where and what to do.

DataError
├── DataMissing         the path is not there
├── DatasetAbsent       a public data set is neither here nor reachable, or not as it was published
├── NoClasses           pictures, but no class folders; or nothing at all
├── EmptyClass          a class folder without a picture
├── SingleClass         nothing to tell apart
├── ClassTooSmall       too few pictures of a class to give one to each split
├── UnknownClass        validation or test hold a class that train has not
├── TableUnreadable     a CSV file that is none
├── MissingColumns      a table without a column that is asked for
├── BadRows             rows of a table that cannot be used, each named with its reason
├── NothingToMeasure    a split whose labels are all alike
├── UnreadableImages    broken, truncated or huge files, each named with its reason
└── CacheUnwritable     the decoded pictures cannot be kept
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from trimtab.contract.trials import FailureKind

_SHOWN = 10


class DataError(Exception):
    """A data set cannot be trained on; `kind` is how a trial that meets it fails."""

    kind: ClassVar[FailureKind] = "user_error"


class DataMissing(DataError):
    """The data set's path is not there, is no folder, or may not be read."""

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(
        self, path: Path, reason: str = "there is no such folder on this worker"
    ) -> None:
        super().__init__(f"{path}: {reason}; mount it there or correct `task.dataset.path`")
        self.path = path


class DatasetAbsent(DataError):
    """A public data set's files are not there, not whole, or other ones than were published."""

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(
        self,
        name: str,
        root: Path,
        files: Sequence[str],
        arguments: Sequence[Mapping[str, object]],
        reason: str,
    ) -> None:
        calls = "; ".join(
            f"{name}('.', {''.join(f'{key}={value!r}, ' for key, value in each.items())}download=True)"
            for each in arguments
        )
        super().__init__(
            f"{name} is not under {root} as torchvision publishes it ({reason}); where there is a network, run "
            f'python -c "from torchvision.datasets import {name}; {calls}" and put {" and ".join(files)} into {root}'
        )
        self.root = root


class NoClasses(DataError):
    """A folder without class folders."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: holds no class folders; put the pictures of each class into a folder of its name"
        )
        self.path = path


class EmptyClass(DataError):
    """A class folder without a picture."""

    def __init__(self, path: Path, suffixes: Sequence[str]) -> None:
        super().__init__(
            f"{path}: this class holds no pictures ({' '.join(suffixes)}); add some or remove the folder"
        )
        self.path = path


class SingleClass(DataError):
    """One class only."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(
            f"{path}: {name!r} is the only class; a classification needs two or more class folders"
        )
        self.path = path


class ClassTooSmall(DataError):
    """Too few pictures of one class to give each split at least one."""

    def __init__(self, name: str, count: int, needed: int) -> None:
        super().__init__(
            f"class {name!r} has {count} different picture{'s' * (count != 1)}, and {needed} are needed to give each split one; add some or remove the class"
        )


class UnknownClass(DataError):
    """A class of validation or test that train has not."""

    def __init__(self, path: Path, train: Path) -> None:
        super().__init__(
            f"{path}: a class that {train} has not; name the class folders alike or remove it"
        )
        self.path = path


class TableUnreadable(DataError):
    """A CSV file that cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: cannot be read as a table ({reason}); it must be a CSV file in UTF-8 with commas"
        )
        self.path = path


class MissingColumns(DataError):
    """Columns that a study names and the table has not."""

    def __init__(self, path: Path, missing: Sequence[str], found: Sequence[str]) -> None:
        super().__init__(
            f"{path}: has no column {', '.join(map(repr, missing))}; its first line names "
            f"{', '.join(map(repr, found[:_SHOWN])) or 'none'}"
        )
        self.path = path


class BadRows(DataError):
    """Rows of a table that cannot be used, by their numbers; the first line is row 1."""

    def __init__(self, path: Path, reasons: Mapping[int, str]) -> None:
        lines = [f"row {number}: {why}" for number, why in list(reasons.items())[:_SHOWN]]
        if len(reasons) > _SHOWN:
            lines.append(f"and {len(reasons) - _SHOWN} more")
        head = f"{path}: {len(reasons)} bad row{'s' * (len(reasons) != 1)}; correct or remove:"
        super().__init__("\n".join([head, *lines]))
        self.path = path
        self.reasons = reasons


class NothingToMeasure(DataError):
    """A split in which the labels of what trials are compared by are all alike or unknown."""

    def __init__(self, path: Path, part: str, names: Sequence[str]) -> None:
        super().__init__(
            f"{path}: the {part} split has no two labels that differ in {', '.join(map(repr, names))}, so that nothing "
            "can be learned or measured; add pictures, or choose the splits yourself with `task.dataset.split`"
        )
        self.path = path


class UnreadableImages(DataError):
    """Broken, truncated or huge picture files."""

    def __init__(self, reasons: Mapping[Path, str]) -> None:
        lines = [f"{path}: {reason}" for path, reason in list(reasons.items())[:_SHOWN]]
        if len(reasons) > _SHOWN:
            lines.append(f"and {len(reasons) - _SHOWN} more")
        super().__init__(
            "\n".join(
                [
                    f"{len(reasons)} unreadable picture{'s' * (len(reasons) != 1)}; repair or remove:",
                    *lines,
                ]
            )
        )
        self.reasons = reasons


class CacheUnwritable(DataError):
    """The folder for decoded pictures refuses them: full, read-only, not ours."""

    kind: ClassVar[FailureKind] = "infrastructure"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: the decoded pictures cannot be kept here ({reason}); make room or set another cache folder"
        )
        self.path = path
