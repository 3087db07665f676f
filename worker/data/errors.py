"""The errors of a data set; each message says what is wrong, where, and what to do.

DataError
├── DataMissing         the path does not exist, or cannot be read
├── OutsideRoots        the path leads out of the folders that this worker may read
├── DatasetAbsent       a public data set is not on this worker and cannot be fetched, or differs from what was published
├── NoClasses           the folder has no class folders
├── LayoutUnclear       the folders in it are neither classes nor splits
├── LinkLoop            a link leads to a folder that it is in
├── EmptyClass          a class folder has no pictures
├── SingleClass         there is only one class
├── ClassTooSmall       a class has too few pictures to give one to each split
├── ClassNameUnreadable a class has a name that is no UTF-8
├── UnknownClass        validation or test has a class that train does not have
├── GroupUnknown        the pattern of the groups finds nothing in the paths of some pictures
├── TableUnreadable     the file is not a CSV file
├── MissingColumns      the table does not have a column that the study names
├── ColumnTwice         two columns of the table have a name that the study uses
├── BadRows             rows of the table cannot be used; each is named with its reason
├── NothingToMeasure    the labels of a split are all equal or unknown, and the objective needs others
├── NumbersForTexts     the column that should hold texts holds numbers
├── ModalityUnfit       the data set is of pictures and the backbone takes texts, or the reverse
├── TokenizerUnusable   the backbone's folder has no tokenizer, or one that cannot be read
├── UnreadableImages    files are broken, truncated or too large; each is named with its reason
└── CacheUnwritable     the decoded pictures cannot be written to disk
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from trimtab.contract.trials import FailureKind

_SHOWN = 10


class DataError(Exception):
    """A data set cannot be trained on; `kind` is the kind of failure of the trial that uses it."""

    kind: ClassVar[FailureKind] = "user_error"


class DataMissing(DataError):
    """The data set's path does not exist, is not what the study says, or may not be read."""

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(
        self, path: Path, reason: str = "there is no such folder on this worker"
    ) -> None:
        super().__init__(
            f"{path}: {reason}; mount the data set there, or correct `task.dataset.path`"
        )
        self.path = path


class OutsideRoots(DataError):
    """A path that a study names leads out of the folders that this worker may read, or into those of the kernel.

    The message is the same whether there is such a file or not.
    """

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(self, path: str | Path, roots: Sequence[str]) -> None:
        below = " and ".join(roots) or "all folders but /proc, /sys and /dev"
        super().__init__(
            f"{path}: this worker does not read there, but only below {below}; correct the path in the study, or let "
            "whoever runs the worker add the folder to TRIMTAB_WORKER_ROOTS"
        )


class DatasetAbsent(DataError):
    """A public data set's files are missing, incomplete, or differ from those that were published."""

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
            f"{name} is not under {root} as torchvision publishes it ({reason}); on a machine with a network, run "
            f'python -c "from torchvision.datasets import {name}; {calls}" and put {" and ".join(files)} into {root}'
        )
        self.root = root


class NoClasses(DataError):
    """A folder without class folders."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: has no class folders; put the pictures of each class into a folder with the class's name"
        )
        self.path = path


class LayoutUnclear(DataError):
    """Folders that are neither classes nor splits, as far as their names and contents tell."""

    def __init__(self, path: Path, why: str, seen: str, do: str) -> None:
        super().__init__(f"{path}: {why}; {do}. What is there: {seen}")
        self.path = path


class LinkLoop(DataError):
    """A link to a folder that it lies in, so that following it would never end."""

    def __init__(self, path: Path, target: Path) -> None:
        super().__init__(
            f"{path}: a link leads back here, to {target}, from within it, so that following it would never end; "
            "remove the link"
        )
        self.path = path


class EmptyClass(DataError):
    """A class folder without a picture."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: this class folder has no pictures; add some, or remove the folder"
        )
        self.path = path


class SingleClass(DataError):
    """The data set has only one class."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(
            f"{path}: {name!r} is the only class; add a folder for at least one other class"
        )
        self.path = path


class ClassTooSmall(DataError):
    """Too few pictures to give each split at least one; or too few groups, which stay together.

    Args:
        name: The class; None where the labels are not classes.
        count: The number of its different pictures or groups.
        needed: The number that it takes.
        grouped: Whether groups were counted.
        noun: The word for one sample.
    """

    def __init__(
        self,
        name: str | None,
        count: int,
        needed: int,
        *,
        grouped: bool = False,
        noun: str = "picture",
    ) -> None:
        many = f"{count} {'group' if grouped else f'different {noun}'}{'s' * (count != 1)}"
        has = f"class {name!r} has {many}" if name else f"the data set has {many}"
        if name and grouped:
            has = f"class {name!r} is the most frequent one in {many}"
        do = "add some, or remove the class" if name else "add some"
        super().__init__(f"{has}, and {needed} are needed to give each split one; {do}")


class ClassNameUnreadable(DataError):
    """Class names, given with their bytes escaped, that are no UTF-8."""

    def __init__(self, names: Sequence[str]) -> None:
        shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
        super().__init__(
            f"the names of these class folders are not UTF-8: {shown} (each byte that is not stands here as \\x and "
            "two digits); rename them"
        )


class UnknownClass(DataError):
    """A class folder of validation or test that train does not have."""

    def __init__(self, path: Path, train: Path) -> None:
        super().__init__(
            f"{path}: {train} has no class folder of this name; rename the folder, remove it, or add the class there"
        )
        self.path = path


class GroupUnknown(DataError):
    """Pictures whose paths do not tell their groups."""

    def __init__(self, pattern: str, paths: Sequence[Path]) -> None:
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        super().__init__(
            f"`task.dataset.group` is {pattern!r}, which finds nothing in the path of {len(paths)} "
            f"picture{'s' * (len(paths) != 1)}: {', '.join(map(str, paths[:_SHOWN]))}{more}; correct the pattern, "
            "or take these pictures away"
        )
        self.paths = paths


class TableUnreadable(DataError):
    """A CSV file that cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: cannot be read as a table ({reason}); save it as a CSV file in UTF-8 with commas"
        )
        self.path = path


class MissingColumns(DataError):
    """Columns that a study names and the table does not have."""

    def __init__(
        self, path: Path, missing: Sequence[str], found: Sequence[str], *, is_table: bool
    ) -> None:
        # The first line of a file that has none of the columns may be anything: it is told to nobody.
        first = (
            f"the columns in its first line are {', '.join(map(repr, found[:_SHOWN]))}"
            if is_table
            else f"its first line has none of the columns that the study names, but {len(found)} others"
        )
        super().__init__(
            f"{path}: has no column {', '.join(map(repr, missing))}; {first}; correct the study's `task` or the file"
        )
        self.path = path
        self.missing = tuple(missing)


class ColumnTwice(DataError):
    """A name that the study uses and that several columns of the table have."""

    def __init__(self, path: Path, name: str, places: Sequence[int]) -> None:
        super().__init__(
            f"{path}: columns {', '.join(map(str, places))} of its first line are all named {name!r}; rename all but the one "
            "that is meant"
        )
        self.path = path


class BadRows(DataError):
    """Rows of a table that cannot be used, by the lines of the file that they begin in; the columns' names are line 1."""

    def __init__(self, path: Path, reasons: Mapping[int, str]) -> None:
        lines = [f"line {line}: {why}" for line, why in list(reasons.items())[:_SHOWN]]
        if len(reasons) > _SHOWN:
            lines.append(f"and {len(reasons) - _SHOWN} more")
        head = (
            f"{path}: {len(reasons)} row{'s' * (len(reasons) != 1)} cannot be used; "
            "correct or remove them:"
        )
        super().__init__("\n".join([head, *lines]))
        self.path = path
        self.reasons = reasons


class NothingToMeasure(DataError):
    """A split whose labels, in the columns that trials are compared by, are too few or all equal.

    Args:
        where: The data set.
        part: The name of the split.
        names: The columns.
        metric: The name of the metric that trials are compared by.
        two: Whether two different labels are needed, not only one that is known.
    """

    def __init__(
        self, where: str, part: str, names: Sequence[str], metric: str, *, two: bool
    ) -> None:
        lacks = "two labels that differ" if two else "known label"
        use = "to learn from" if part == "train" else f"that {metric!r} can be measured by"
        super().__init__(
            f"{where}: the {part} split has no {lacks} in {', '.join(map(repr, names))} {use}; add pictures to this "
            "split, choose the splits yourself (`task.dataset.split` of a table, the folders `train`, `val` and `test`), "
            "or take another `task.objective`"
        )


class UnreadableImages(DataError):
    """Broken, truncated or huge picture files, or other samples of which a model cannot predict."""

    def __init__(self, reasons: Mapping[Path, str], what: str = "picture") -> None:
        lines = [f"{path}: {reason}" for path, reason in list(reasons.items())[:_SHOWN]]
        if len(reasons) > _SHOWN:
            lines.append(f"and {len(reasons) - _SHOWN} more")
        super().__init__(
            "\n".join(
                [
                    f"{len(reasons)} {what}{'s' * (len(reasons) != 1)} cannot be read; repair or remove them:",
                    *lines,
                ]
            )
        )
        self.reasons = reasons


class NumbersForTexts(DataError):
    """A column of texts in which every cell is a number."""

    def __init__(self, path: Path, column: str) -> None:
        super().__init__(
            f"{path}: every cell of {column!r} is a number; name the column of the texts in `task.dataset.text`"
        )
        self.path = path


class ModalityUnfit(DataError):
    """A data set of one kind of samples for a backbone that takes another kind."""

    def __init__(self, data: str, backbone: str) -> None:
        super().__init__(
            f"the samples of the data set are of the kind {data}, and the backbone takes those of the kind {backbone}; "
            "change `task.dataset` or `model.backbone`"
        )


class TokenizerUnusable(DataError):
    """A folder of published weights without a tokenizer that can be used."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}; a text backbone needs the tokenizer that it was trained with: put its files beside the "
            "weights, as they are published"
        )
        self.path = path


class CacheUnwritable(DataError):
    """The decoded pictures cannot be written: the disk is full, or the folder may not be written to."""

    kind: ClassVar[FailureKind] = "infrastructure"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: the decoded pictures cannot be kept here ({reason}); make room, or set another folder with "
            "--cache-dir"
        )
        self.path = path
