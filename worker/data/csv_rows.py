"""CSV files (RFC 4180), row by row: a file may be larger than the memory."""

import csv
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from worker.data.errors import ColumnTwice, MissingColumns, TableUnreadable
from worker.data.rows import Row


def read(
    path: Path, lines: Iterable[str], longest: int, columns: Sequence[str]
) -> Iterator[Row]:
    """Yield the rows of a table, each with the line that it begins in; empty lines are no rows.

    Args:
        path: The file, for messages.
        lines: Its lines with their ends, as `newline=""` gives them.
        longest: The most characters that a cell may have, such as the length of the file.
        columns: The columns that are read.

    Raises:
        TableUnreadable: It is no CSV.
        MissingColumns, ColumnTwice: Its first line does not name each column that is read once.
    """
    reader = csv.reader(lines, strict=True)
    try:
        with _cells_of_any_length(longest):
            found = next(reader, list[str]())
            places = _places(path, columns, found)
            # A quoted cell may have several lines, and empty lines are no rows: a row begins after what was read.
            read = reader.line_num
            for row in reader:
                cells = {name: row[at] for name, at in places.items() if at < len(row)}
                if row:
                    yield Row(read + 1, cells, len(row) > len(found))
                read = reader.line_num
    except csv.Error as error:
        raise TableUnreadable(path, f"line {reader.line_num}: {error}") from error


def _places(path: Path, used: Sequence[str], found: Sequence[str]) -> Mapping[str, int]:
    """Return the position of each column that is read."""
    if missing := [name for name in used if name not in found]:
        raise MissingColumns(path, missing, found, is_table=len(missing) < len(used))
    for name in used:
        if found.count(name) > 1:
            raise ColumnTwice(
                path, name, [at for at, each in enumerate(found, 1) if each == name]
            )
    return {name: found.index(name) for name in used}


@contextmanager
def _cells_of_any_length(longest: int) -> Generator[None]:
    """Let a cell be as long as the table; else one of 131,073 characters, read or not, makes it unreadable."""
    before = csv.field_size_limit(max(csv.field_size_limit(), longest))
    try:
        yield
    finally:
        csv.field_size_limit(before)
