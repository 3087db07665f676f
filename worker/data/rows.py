"""Rows of a table: what is to be learned of each, its split and its group; and the reasons why a row cannot be used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.contract.datasets import TableDataset, TargetColumn
from worker.data.images.layout import PART_NAMES, part_of
from worker.data.source import Part

_YES_AND_NO = {"1": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "false": 0.0, "no": 0.0}
_LARGEST = 3.4e38
"""The largest label: that of float32. Labels are float64, and the sums of their squares must be finite there."""

_QUOTED = 60
"""At most this many characters of a cell stand in a message."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row that are read, by their columns; `line` is the line of the file that it begins in."""

    line: int
    cells: Mapping[str, str]
    has_more_cells: bool = False
    problem: str | None = None
    """Why it cannot be read at all."""


class RowReader:
    """Reads labels, split and group of a row; whatever it cannot read, it raises ValueError with the reason.

    Args:
        dataset: The columns that are used.
        targets: The columns to learn.
        positions: The position of each class, by its name, for each column of classes.
    """

    def __init__(
        self,
        dataset: TableDataset,
        targets: Sequence[TargetColumn],
        positions: Mapping[str, Mapping[str, int]],
    ) -> None:
        self._dataset = dataset
        self._targets = targets
        self._positions = positions

    def labels(self, row: Row) -> tuple[float, ...]:
        """Return the label of each target; NaN where it is not known."""
        if row.problem is not None:
            raise ValueError(row.problem)
        if row.has_more_cells:
            raise ValueError("has more cells than there are columns")
        labels = tuple(self._label(target, row) for target in self._targets)
        # With several targets, a row of which none is known is one end of a table of partial labels.
        if len(labels) == 1 and math.isnan(labels[0]):
            raise ValueError("has no label")
        return labels

    def group(self, row: Row) -> str | None:
        """Return the name of the row's group; None where groups are not told."""
        if self._dataset.group is None:
            return None
        if name := cell(row, self._dataset.group):
            return name
        raise ValueError(f"{self._dataset.group!r} is empty")

    def part(self, row: Row) -> Part | None:
        """Return the split that the row says; None where none is told."""
        if self._dataset.split is None:
            return None
        word = cell(row, self._dataset.split)
        if part := part_of(word):
            return part
        raise ValueError(
            f"{self._dataset.split!r} is {quoted(word)}, not one of {', '.join(PART_NAMES)}"
        )

    def _label(self, target: TargetColumn, row: Row) -> float:
        """Return the label of a cell; NaN if it is empty."""
        word = cell(row, target.column)
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
        raise ValueError(f"{column!r} is {quoted(word)}, neither 0 nor 1")
    return number


def _number(column: str, word: str) -> float:
    number = _float(word)
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{column!r} is {quoted(word)}, not a number that can be learned")
    return number


def _float(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def quoted(word: str) -> str:
    """Return a cell as a message quotes it, cut if it is long."""
    return repr(word if len(word) <= _QUOTED else f"{word[:_QUOTED]}...")


def classes_of(column: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the class names in a column, in their order."""
    return tuple(sorted({row.cells.get(column, "").strip() for row in rows} - {""}))


def cell(row: Row, column: str) -> str:
    """Return what stands in a column, without space around it.

    Raises:
        ValueError: The row does not have this column.
    """
    if column not in row.cells:
        raise ValueError(f"has no cell for {column!r}")
    return row.cells[column].strip()
