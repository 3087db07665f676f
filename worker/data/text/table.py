"""A table of texts: its rows as columns of numbers, a few bytes a row, and its texts one after the other."""

import hashlib
import json
import math
import unicodedata
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.contract.tasks import Task
from worker.data import groups, splits
from worker.data.errors import BadRows, DataMissing, NumbersForTexts
from worker.data.rows import Row, RowReader, cell
from worker.data.text.reading import TextDataset, rows
from worker.data.text.tokenizer import Content

_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known of the N rows that can be used, in their order.

    Attributes:
        lines: The line that each begins in, int64 `(N,)`.
        labels: The labels, float64 `(N, targets)`; NaN where one is not known.
        parts: The place in `splits.PARTS` of the split that the table says, int8 `(N,)`; -1 for none.
        groups: The place in `group_names` of its group, int32 `(N,)`; -1 for none.
        group_names: The names of the groups.
        contents: The number of its content, uint64 `(N,)`, which its copies share.
        classes: The class names of each target, by its column; empty for a target that is not a classification.
        sha256: The hash of all texts and labels.
        bad_rows: The reasons why the other rows cannot be used, by their lines, such as `line 7`.
    """

    lines: NDArray[np.int64]
    labels: NDArray[np.float64]
    parts: NDArray[np.int8]
    groups: NDArray[np.int32]
    group_names: tuple[str, ...]
    contents: NDArray[np.uint64]
    classes: Mapping[str, tuple[str, ...]]
    sha256: str
    bad_rows: Mapping[str, str]

    @property
    def division(self) -> str:
        """The hash of splits and groups in the order of the rows."""
        seen = hashlib.sha256(self.parts.tobytes())
        seen.update(self.groups.tobytes())
        seen.update(json.dumps(self.group_names).encode())
        return seen.hexdigest()

    @property
    def draws(self) -> NDArray[np.uint64]:
        """The number that each row is dealt by, uint64 `(N,)`, alike for those that must stay together."""
        if not self.group_names:
            return self.contents
        named = np.array([groups.draw_of(name) for name in self.group_names], dtype=np.uint64)
        own = np.where(self.groups < 0, self.contents, named[self.groups])
        joined = groups.joined(own.tolist(), self.contents.tolist(), (self.parts <= 0).tolist())
        return np.array(joined, dtype=np.uint64)


@dataclass(frozen=True)
class TextTable:
    """A CSV or JSONL file of texts, or of pairs of texts.

    Attributes:
        path: The file, which may be read.
        dataset: The columns that are used.
        task: The task, which names the targets.
    """

    path: Path
    dataset: TextDataset
    task: Task

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever rows or labels may have changed; the file is not read.

        Raises:
            DataMissing: There is no such file, or it may not be read.
        """
        if not self.path.is_file():
            raise DataMissing(self.path, "there is no such file on this worker")
        status = self.path.stat()
        stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ino} {status.st_mode}"
        return f"{self.path} {stamp} {self.task.kind} {self.task.on_bad_file} {self.dataset.model_dump_json()}"

    @cached_property
    def columns(self) -> Columns:
        """The rows that can be used; the file is read once for them.

        Raises:
            DataError: It is no table, lacks a column, or has bad rows that may not be left out.
        """
        scan = _Scan(self.dataset, self.task)
        for row in self._rows():
            scan.take(row)
        scan.check_texts(self.path)
        if scan.reasons and (self.task.on_bad_file == "fail" or not len(scan.lines)):
            raise BadRows(self.path, scan.reasons)
        return scan.columns()

    def texts(self, chosen: NDArray[np.bool_] | None = None) -> Iterator[tuple[int, Content]]:
        """Yield the texts of the rows that can be used, or of those of them that are chosen, `(N,)`, with their places."""
        lines = self.columns.lines
        wanted = _in_parts(len(lines), chosen)
        place = next(wanted, None)
        for row in self._rows():
            if place is None:
                return
            if row.line == lines[place]:
                yield place, _content(row, self.dataset.texts)
                place = next(wanted, None)

    def _rows(self) -> Iterator[Row]:
        try:
            dataset = self.dataset
            yield from rows(self.path, dataset.kind, dataset.columns, dataset.texts)
        except OSError as error:
            raise DataMissing(self.path, error.strerror or str(error)) from error


def _in_parts(count: int, chosen: NDArray[np.bool_] | None) -> Iterator[int]:
    """Yield the places of the chosen rows: as numbers of Python they would take more memory than the rows' columns."""
    for begin in range(0, count, _ROWS_AT_ONCE):
        end = min(begin + _ROWS_AT_ONCE, count)
        if chosen is None:
            yield from range(begin, end)
        else:
            yield from (begin + np.flatnonzero(chosen[begin:end])).tolist()


class _Positions(dict[str, int]):
    """The position of each class in the order in which they were met."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


class _Scan:
    """Takes row after row, and keeps some bytes of each."""

    def __init__(self, dataset: TextDataset, task: Task) -> None:
        self.reasons: dict[int, str] = {}
        self.lines = array("q")
        self._labels, self._parts, self._groups = array("d"), array("b"), array("i")
        self._contents = array("Q")
        self._hash = hashlib.sha256()
        self._texts = dataset.texts
        self._targets = task.targets
        self._positions = {target.column: _Positions() for target in task.targets}
        self._group_names = _Positions()
        self._numbers = set(dataset.texts)
        self._read = RowReader(dataset, task.targets, self._positions)

    def take(self, row: Row) -> None:
        """Keep what is needed of a row, or the reason why it cannot be used."""
        try:
            content = content_of(row, self._texts)
            part, group = self._read.part(row), self._read.group(row)
            labels = self._read.labels(row)
        except ValueError as error:
            self.reasons[row.line] = row.problem or str(error)
            return
        self._numbers -= {name for name in self._numbers if not _is_number(row.cells[name])}
        self.lines.append(row.line)
        self._labels.extend(labels)
        self._parts.append(-1 if part is None else splits.PARTS.index(part))
        self._groups.append(-1 if group is None else self._group_names[group])
        folded = _digest(_folded(content))
        self._contents.append(splits.draw_of(folded))
        words = [row.cells[target.column].strip() for target in self._targets]
        self._hash.update(f"{_digest(content)}{json.dumps(words)}\n".encode())

    def check_texts(self, path: Path) -> None:
        """Refuse a column of numbers.

        Raises:
            NumbersForTexts: Every text of a column is a number.
        """
        if len(self.lines) and self._numbers:
            raise NumbersForTexts(path, min(self._numbers))

    def columns(self) -> Columns:
        """Return what was kept, with the classes in the order of their names."""
        # Views and no copies: these columns are the most that is in memory of a long table.
        labels = np.frombuffer(self._labels, np.float64).reshape(-1, len(self._targets))
        classes: dict[str, tuple[str, ...]] = {}
        for place, target in enumerate(self._targets):
            names = self._positions[target.column]
            classes[target.column] = tuple(sorted(names))
            if names:
                known = ~np.isnan(labels[:, place])
                sorted_to = {name: at for at, name in enumerate(classes[target.column])}
                order = np.array([sorted_to[name] for name in names])
                labels[known, place] = order[labels[known, place].astype(np.int64)]
        return Columns(
            lines=np.frombuffer(self.lines, np.int64),
            labels=labels,
            parts=np.frombuffer(self._parts, np.int8),
            groups=np.frombuffer(self._groups, np.int32),
            group_names=tuple(self._group_names),
            contents=np.frombuffer(self._contents, np.uint64),
            classes=classes,
            sha256=self._hash.hexdigest(),
            bad_rows={f"line {line}": why for line, why in self.reasons.items()},
        )


def content_of(row: Row, columns: Sequence[str]) -> Content:
    """Return the texts of a row.

    Raises:
        ValueError: One is missing, empty or no UTF-8; the message is the reason.
    """
    if row.problem is not None:
        raise ValueError(row.problem)
    for name in columns:
        if not cell(row, name):
            raise ValueError(f"{name!r} is empty")
    for name, word in row.cells.items():
        if not _is_text(word):
            raise ValueError(f"{name!r} is not UTF-8")
    return _content(row, columns)


def _content(row: Row, columns: Sequence[str]) -> Content:
    if len(columns) == 1:
        return row.cells[columns[0]]
    return row.cells[columns[0]], row.cells[columns[1]]


def _is_text(word: str) -> bool:
    try:
        return word.isascii() or bool(word.encode())
    except UnicodeEncodeError:  # Lone surrogates.
        return False


def _is_number(word: str) -> bool:
    try:
        return not math.isnan(float(word))
    except ValueError:
        return False


def _folded(content: Content) -> Content:
    """Return texts in Unicode's NFC with one space between words: those that are alike then count as copies."""
    if isinstance(content, str):
        return " ".join(unicodedata.normalize("NFC", content).split())
    first, second = content
    return str(_folded(first)), str(_folded(second))


def _digest(content: Content) -> str:
    texts = (content,) if isinstance(content, str) else content
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
