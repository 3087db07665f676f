"""Tables: a CSV file (RFC 4180) that lists pictures and their targets, one picture a row."""

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.contract.tasks import CsvDataset, TargetColumn, Task
from worker.data.errors import BadRows, DataMissing, MissingColumns, TableUnreadable
from worker.data.images.folder import PART_NAMES, ImageFolder
from worker.data.roots import Roots
from worker.data.source import Part, Sample

_YES_AND_NO = {"1": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "false": 0.0, "no": 0.0}
_LARGEST = 3.4e38
"""The largest number that float32, in which labels are stored, can hold."""

_Row = Mapping[str | None, str | None]


@dataclass(frozen=True)
class Table(ImageFolder):
    """The picture files that a table lists; for messages they count as files of a folder.

    Attributes:
        path: The table.
        contents: The sha256 of the table's bytes and of the names of the columns that are read.
        target_classes: The class names of each target in the order of the labels, by the target's name; empty for a
            target that is not a classification.
        bad_rows: The reasons for which rows are left out, by row, such as `row 7`.
    """

    path: Path
    contents: str
    target_classes: Mapping[str, tuple[str, ...]]
    bad_rows: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """The hash of the table and the state of every picture file."""
        return f"{self.contents} {super().fingerprint}"


def scan(path: Path, dataset: CsvDataset, task: Task, roots: Roots | None = None) -> Table:
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
        rows = list(_rows(path, contents.decode("utf-8-sig"), dataset))
    except OSError as error:
        raise DataMissing(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        # Python's own words quote the byte, and the file may be any.
        raise TableUnreadable(path, "it is no UTF-8") from error
    except csv.Error as error:
        raise TableUnreadable(path, str(error)) from error
    if not rows:
        raise TableUnreadable(path, "it has no rows")
    # Under `skip`, unreadable files are left out when they are decoded, and missing files with them.
    skips = task.on_bad_file == "skip"
    reader = _Reader(path.parent, dataset, task.targets, rows, roots, skips_files=skips)
    read = {number: reader.sample(number, row) for number, row in enumerate(rows, 2)}
    samples = [sample for number, sample in read.items() if number not in reader.reasons]
    if reader.reasons and not (skips and samples):
        raise BadRows(path, reader.reasons)
    single = task.kind == "classification"
    return Table(
        root=path.parent,
        roots=roots,
        classes=reader.classes[task.targets[0].column] if single else (),
        listed=tuple(
            (str(sample.path), _class_of(sample) if single else sample.label, sample.part)
            for sample in samples
        ),
        path=path,
        contents=hashlib.sha256(contents + dataset.model_dump_json().encode()).hexdigest(),
        target_classes=reader.classes,
        bad_rows={f"row {number}": why for number, why in reader.reasons.items()},
    )


def _rows(path: Path, text: str, dataset: CsvDataset) -> Iterator[_Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found = reader.fieldnames or ()
    used = [dataset.image, *dataset.names, *([dataset.split] if dataset.split else [])]
    if missing := [name for name in used if name not in found]:
        raise MissingColumns(path, missing, found, is_table=len(missing) < len(used))
    yield from reader


class _Reader:
    """Turns rows into samples, and keeps the reasons why rows are bad by their numbers."""

    def __init__(
        self,
        root: Path,
        dataset: CsvDataset,
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

    def sample(self, number: int, row: _Row) -> Sample:
        """Return the sample of a row; for a bad row, note the reason and return a sample that must not be used."""
        try:
            if None in row:
                raise ValueError("has more cells than there are columns")
            labels = tuple(self._label(target, row) for target in self._targets)
            if all(map(math.isnan, labels)):
                raise ValueError("has no label")
            return Sample(self._picture(row), labels, self._part(row))
        except ValueError as error:
            self.reasons[number] = str(error)
            return Sample(Path(), (), None)

    def _picture(self, row: _Row) -> Path:
        name = _cell(row, self._dataset.image)
        if not name:
            raise ValueError(f"{self._dataset.image!r} is empty")
        # Before it is asked whether there is such a file: the answer must not tell.
        if not self._roots.allow(f"{self._root / name}"):
            raise ValueError(f"{name!r} leads to where this worker does not read")
        if not (self._skips_files or (self._root / name).is_file()):
            raise ValueError(f"{name!r} is not a file in {self._root}")
        return Path(name)

    def _part(self, row: _Row) -> Part | None:
        if self._dataset.split is None:
            return None
        word = _cell(row, self._dataset.split)
        if word.lower() not in PART_NAMES:
            raise ValueError(
                f"{self._dataset.split!r} is {word!r}, not one of {', '.join(PART_NAMES)}"
            )
        return PART_NAMES[word.lower()]

    def _label(self, target: TargetColumn, row: _Row) -> float:
        """Return the label of a cell; NaN if it is empty."""
        word = _cell(row, target.column)
        match target.kind:
            case _ if not word:
                return math.nan
            case "classification":
                return float(self._positions[target.column][word])
            case "binary":
                if word.lower() in _YES_AND_NO:
                    return _YES_AND_NO[word.lower()]
                raise ValueError(f"{target.column!r} is {word!r}, neither 0 nor 1")
            case "regression":
                return _number(target.column, word)


def _number(column: str, word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{column!r} is {word!r}, not a number that can be learned")
    return number


def _classes(column: str, rows: Sequence[_Row]) -> tuple[str, ...]:
    return tuple(sorted({(row.get(column) or "").strip() for row in rows} - {""}))


def _cell(row: _Row, column: str) -> str:
    word = row[column]
    if word is None:
        raise ValueError(f"has no cell for {column!r}")
    return word.strip()


def _class_of(sample: Sample) -> int:
    """Return the class position of a sample of a single classification, stored as in an image folder."""
    return sample.label if isinstance(sample.label, int) else int(sample.label[0])
