"""Tables: a CSV file (RFC 4180) that lists pictures and their targets, one picture a row."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.contract.datasets import TableDataset, TargetColumn
from trimtab.contract.tasks import Task
from worker.data import csv_rows
from worker.data.errors import (
    BadRows,
    DataMissing,
    TableUnreadable,
)
from worker.data.images import picture_files
from worker.data.images.folder import ImageFolder
from worker.data.images.picture_files import ImageHeader
from worker.data.roots import Roots
from worker.data.rows import Row, RowReader, cell, classes_of, quoted
from worker.data.source import Sample


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
        text = contents.decode("utf-8-sig")
        rows = list(
            csv_rows.read(path, io.StringIO(text, newline=""), len(text), dataset.columns)
        )
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


class _Reader:
    """Turns rows into samples, and keeps the reasons why rows are bad by their lines."""

    def __init__(
        self,
        root: Path,
        dataset: TableDataset,
        targets: Sequence[TargetColumn],
        rows: Sequence[Row],
        roots: Roots,
        *,
        skips_files: bool,
    ) -> None:
        self.reasons: dict[int, str] = {}
        self.classes = {
            target.column: classes_of(target.column, rows)
            if target.kind == "classification"
            else ()
            for target in targets
        }
        self._root = root
        self._roots = roots
        self._skips_files = skips_files
        self._dataset = dataset
        positions = {
            column: {name: position for position, name in enumerate(names)}
            for column, names in self.classes.items()
        }
        self._rows = RowReader(dataset, targets, positions)

    def sample(self, row: Row) -> Sample:
        """Return the sample of a row; for a bad row, note the reason and return a sample that must not be used."""
        try:
            read = self._rows
            labels = read.labels(row)
            return Sample(self._picture(row), labels, read.part(row), read.group(row))
        except ValueError as error:
            self.reasons[row.line] = str(error)
            return Sample(Path(), (), None)

    def _picture(self, row: Row) -> Path:
        (column,) = self._dataset.sample_columns
        name = cell(row, column)
        if not name:
            raise ValueError(f"{column!r} is empty")
        # Before it is asked whether there is such a file: the answer must not tell.
        if "\0" not in name and not self._roots.allow(f"{self._root / name}"):
            raise ValueError(f"{quoted(name)} leads to where this worker does not read")
        if "\0" in name or not (self._skips_files or _is_file(self._root / name)):
            raise ValueError(f"{quoted(name)} is not a file in {self._root}")
        return Path(name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # A name that the file system does not take.
        return False


def _class_of(sample: Sample) -> int:
    """Return the class position of a sample of a single classification, stored as in an image folder."""
    return sample.label if isinstance(sample.label, int) else int(sample.label[0])
