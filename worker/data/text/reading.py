"""Tables of texts, row by row: a file may be larger than the memory, so that nothing of it is kept here."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

from trimtab.contract.datasets import CsvDataset, JsonlDataset
from worker.data import csv_rows
from worker.data.errors import MissingColumns, TableUnreadable
from worker.data.rows import Row

TextDataset = CsvDataset | JsonlDataset
Form = Literal["csv", "jsonl"]
_MARK = "\ufeff"
"""What some programs write in front of UTF-8."""
_MOST_NAMES = 10_000
_NO_WORD = "\0no word"


def rows(path: Path, form: Form, columns: Sequence[str], texts: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file of texts.

    Args:
        path: The file.
        form: The form of the file.
        columns: The columns that are read.
        texts: Those of them that hold texts.

    Raises:
        TableUnreadable: It is no CSV, or has no rows.
        MissingColumns, ColumnTwice: It does not name each column that is read once.
        OSError: The system does not let it be read.
    """
    none = True
    read = _csv(path, columns) if form == "csv" else _jsonl(path, columns, texts)
    for row in read:
        none = False
        yield row
    if none:
        raise TableUnreadable(path, "it has no rows")


def _csv(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    # Bytes that are no UTF-8 become lone surrogates, so that only the rows that hold them are bad.
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = chain((line.removeprefix(_MARK) for line in (file.readline(),)), file)
        yield from csv_rows.read(path, lines, path.stat().st_size, columns)


def _jsonl(path: Path, columns: Sequence[str], texts: Sequence[str]) -> Iterator[Row]:
    seen: dict[str, None] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _object(number, line, columns, texts, seen)
    # Some object has all that is read, or the file is one of another purpose.
    if seen and (missing := [name for name in columns if name not in seen]):
        is_table = len(missing) < len(columns)
        raise MissingColumns(path, missing, tuple(seen), is_table=is_table)


def _object(
    number: int,
    line: bytes,
    columns: Sequence[str],
    texts: Sequence[str],
    seen: dict[str, None],
) -> Row:
    try:
        found = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
    except UnicodeDecodeError:
        return Row(number, {}, problem="is not UTF-8")
    except (ValueError, RecursionError):
        return Row(number, {}, problem="is not JSON")
    if not isinstance(found, dict):
        return Row(number, {}, problem="is not a JSON object")
    fields = cast(dict[str, Any], found)
    seen.update(dict.fromkeys(fields) if len(seen) < _MOST_NAMES else {})
    cells: dict[str, str] = {}
    for name in columns:
        if name not in fields:
            continue
        if name in texts and not isinstance(fields[name], str):
            return Row(number, {}, problem=f"{name!r} is {_kind(fields[name])}, not a text")
        cells[name] = _word(fields[name])
        if cells[name] is _NO_WORD:
            return Row(number, {}, problem=f"{name!r} is a list or an object, not a label")
    return Row(number, cells)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case _:
            return "a list or an object"


def _word(value: object) -> str:
    """Return a value as a cell of a table would have it; what has no such form, as `_NO_WORD`."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool | int | float) else _NO_WORD


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)
