"""Tables: a CSV file (RFC 4180) that lists pictures and their targets, one picture a row."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trimtab.contract.datasets import TableDataset, TargetColumn
from trimtab.contract.tasks import Task
from worker.data.errors import (
    BadRows,
    ColumnTwice,
    DataMissing,
    MissingColumns,
    TableUnreadable,
)
from worker.data.images import picture_files
from worker.data.images.folder import ImageFolder
from worker.data.images.layout import PART_NAMES, part_of
from worker.data.images.picture_files import ImageHeader
from worker.data.roots import Roots
from worker.data.source import Part, Sample

_YES_AND_NO = {"1": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "false": 0.0, "no": 0.0}
_LARGEST = 3.4e38
"""The largest label: that of float32. Labels are float64, and the sums of their squares must be finite there."""

_QUOTED = 60
"""At most this many characters of a cell stand in a message."""


@dataclass(frozen=True, slots=True)
class _Row:
    """The cells of one row that are read, by their columns; `line` is the line of the file that it begins in."""

    line: int
    cells: Mapping[str, str]
    has_more_cells: bool


@dataclass(frozen=True)
class Table(ImageFolder):
    """The picture files that a table lists; for messages they count as files of a folder.

    Attributes:
        path: The table.
        contents: The sha256 of the table's bytes and of the names of the columns that are read.
        target_classes: The class names of each target in the order of the labels, by the target's name; empty for a
            target that is not a classification.
        bad_rows: The reasons for which rows are left out, by their lines, such as `line 7`.
    """

    path: Path
    contents: str
    target_classes: Mapping[str, tuple[str, ...]]
    bad_rows: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """The hash of the table and the state of every picture file."""
        return f"{self.contents} {super().fingerprint}"

    @property
    def division(self) -> str:
        """The hash of splits and groups in the order of the rows."""
        named = json.dumps([(part, group) for *_, part, group in self.listed])
        return hashlib.sha256(named.encode()).hexdigest()

    def header(self, sample: Sample) -> ImageHeader:
        """Return size and kind without decoding; a file that is none, the table calls a picture, so that it is bad."""
        return picture_files.header(self._file(sample))


def scan(path: Path, dataset: TableDataset, task: Task, roots: Roots | None = None) -> Table:
    """Read a table. Bad rows are refused all at once, or left out if the task says so.

    Args:
        path: The table, which may be read.
        dataset: The columns that are used.
        task: The targets.
        roots: The folders in which the pictures may be; None allows what no roots allow.

    Raises:
        DataError: The file is missing or not a table, lacks a column, or has bad rows that may not be left out.
    """
    roots = roots or Roots()
    if not path.is_file():
        raise DataMissing(path, "there is no such file on this worker")
    try:
        contents = path.read_bytes()
        rows = _rows(path, contents.decode("utf-8-sig"), dataset)
    except OSError as error:
        raise DataMissing(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        # Python's own words quote the byte, and the file may be any.
        raise TableUnreadable(path, "it is no UTF-8") from error
    if not rows:
        raise TableUnreadable(path, "it has no rows")
    # Under `skip`, unreadable files are left out when they are decoded, and missing files with them.
    skips = task.on_bad_file == "skip"
    reader = _Reader(path.parent, dataset, task.targets, rows, roots, skips_files=skips)
    read = {row.line: reader.sample(row) for row in rows}
    samples = [sample for line, sample in read.items() if line not in reader.reasons]
    if reader.reasons and not (skips and samples):
        raise BadRows(path, reader.reasons)
    single = task.kind == "classification"
    return Table(
        root=path.parent,
        roots=roots,
        classes=reader.classes[task.targets[0].column] if single else (),
        listed=tuple(
            (
                str(sample.path),
                _class_of(sample) if single else sample.label,
                sample.part,
                sample.group,
            )
            for sample in samples
        ),
        path=path,
        contents=hashlib.sha256(contents + dataset.model_dump_json().encode()).hexdigest(),
        target_classes=reader.classes,
        bad_rows={f"line {line}": why for line, why in reader.reasons.items()},
    )


def _rows(path: Path, text: str, dataset: TableDataset) -> list[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[_Row] = []
    try:
        with _cells_of_any_length(text):
            found = next(reader, list[str]())
            places = _places(path, dataset, found)
            # A quoted cell may have several lines, and empty lines are no rows: a row begins after what was read.
            read = reader.line_num
            for row in reader:
                cells = {name: row[at] for name, at in places.items() if at < len(row)}
                if row:
                    rows.append(_Row(read + 1, cells, len(row) > len(found)))
                read = reader.line_num
    except csv.Error as error:
        raise TableUnreadable(path, f"line {reader.line_num}: {error}") from error
    return rows


def _places(path: Path, dataset: TableDataset, found: Sequence[str]) -> Mapping[str, int]:
    """Return the position of each column that is read."""
    used = dataset.columns
    if missing := [name for name in used if name not in found]:
        raise MissingColumns(path, missing, found, is_table=len(missing) < len(used))
    for name in used:
        if found.count(name) > 1:
            raise ColumnTwice(
                path, name, [at for at, each in enumerate(found, 1) if each == name]
            )
    return {name: found.index(name) for name in used}


@contextmanager
def _cells_of_any_length(text: str) -> Generator[None]:
    """Let a cell be as long as the table; else one of 131,073 characters, read or not, makes it unreadable."""
    before = csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    try:
        yield
    finally:
        csv.field_size_limit(before)


class _Reader:
    """Turns rows into samples, and keeps the reasons why rows are bad by their lines."""

    def __init__(
        self,
        root: Path,
        dataset: TableDataset,
        targets: Sequence[TargetColumn],
        rows: Sequence[_Row],
        roots: Roots,
        *,
        skips_files: bool,
    ) -> None:
        self.reasons: dict[int, str] = {}
        self.classes = {
            target.column: _classes(target.column, rows)
            if target.kind == "classification"
            else ()
            for target in targets
        }
        self._root = root
        self._roots = roots
        self._skips_files = skips_files
        self._dataset = dataset
        self._targets = targets
        self._positions = {
            column: {name: position for position, name in enumerate(names)}
            for column, names in self.classes.items()
        }

    def sample(self, row: _Row) -> Sample:
        """Return the sample of a row; for a bad row, note the reason and return a sample that must not be used."""
        try:
            if row.has_more_cells:
                raise ValueError("has more cells than there are columns")
            labels = tuple(self._label(target, row) for target in self._targets)
            # With several targets, a row of which none is known is one end of a table of partial labels.
            if len(labels) == 1 and math.isnan(labels[0]):
                raise ValueError("has no label")
            return Sample(self._picture(row), labels, self._part(row), self._group(row))
        except ValueError as error:
            self.reasons[row.line] = str(error)
            return Sample(Path(), (), None)

    def _picture(self, row: _Row) -> Path:
        (column,) = self._dataset.sample_columns
        name = _cell(row, column)
        if not name:
            raise ValueError(f"{column!r} is empty")
        # Before it is asked whether there is such a file: the answer must not tell.
        if "\0" not in name and not self._roots.allow(f"{self._root / name}"):
            raise ValueError(f"{_quoted(name)} leads to where this worker does not read")
        if "\0" in name or not (self._skips_files or _is_file(self._root / name)):
            raise ValueError(f"{_quoted(name)} is not a file in {self._root}")
        return Path(name)

    def _group(self, row: _Row) -> str | None:
        if self._dataset.group is None:
            return None
        if name := _cell(row, self._dataset.group):
            return name
        raise ValueError(f"{self._dataset.group!r} is empty")

    def _part(self, row: _Row) -> Part | None:
        if self._dataset.split is None:
            return None
        word = _cell(row, self._dataset.split)
        if part := part_of(word):
            return part
        raise ValueError(
            f"{self._dataset.split!r} is {_quoted(word)}, not one of {', '.join(PART_NAMES)}"
        )

    def _label(self, target: TargetColumn, row: _Row) -> float:
        """Return the label of a cell; NaN if it is empty."""
        word = _cell(row, target.column)
        match target.kind:
            case _ if not word:
                return math.nan
            case "classification":
                return float(self._positions[target.column][word])
            case "binary":
                return _yes_or_no(target.column, word)
            case "regression":
                return _number(target.column, word)


def _yes_or_no(column: str, word: str) -> float:
    """Return 0 or 1; as 0.0 and 1.0 too, which is how pandas writes a column that has empty cells."""
    number = _YES_AND_NO.get(word.lower(), _float(word))
    if number not in (0, 1):
        raise ValueError(f"{column!r} is {_quoted(word)}, neither 0 nor 1")
    return number


def _number(column: str, word: str) -> float:
    number = _float(word)
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{column!r} is {_quoted(word)}, not a number that can be learned")
    return number


def _float(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _quoted(word: str) -> str:
    return repr(word if len(word) <= _QUOTED else f"{word[:_QUOTED]}...")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # A name that the file system does not take.
        return False


def _classes(column: str, rows: Sequence[_Row]) -> tuple[str, ...]:
    return tuple(sorted({row.cells.get(column, "").strip() for row in rows} - {""}))


def _cell(row: _Row, column: str) -> str:
    if column not in row.cells:
        raise ValueError(f"has no cell for {column!r}")
    return row.cells[column].strip()


def _class_of(sample: Sample) -> int:
    """Return the class position of a sample of a single classification, stored as in an image folder."""
    return sample.label if isinstance(sample.label, int) else int(sample.label[0])
