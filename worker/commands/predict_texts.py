"""The texts that `trimtab predict` is given: in words, in a table, or on its standard input."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from worker.commands.predict import Sample
from worker.data.errors import DataError, MissingColumns
from worker.data.rows import Row
from worker.data.text.reading import rows
from worker.data.text.table import content_of
from worker.data.text.tokenizer import Content
from worker.training.model.card import ModelCard, TokenCard
from worker.training.model.predictor import Unreadable

_SHOWN = 60
"""At most this many characters of a text are repeated beside its prediction."""
_COLUMNS = {
    1: "the column of its texts by --text COLUMN",
    2: "the columns of its pairs by --text COLUMN --text COLUMN",
}
"""The columns of a table that have other names than those that a model learned from, by the texts of a sample."""


class WrongInput(DataError):
    """What was given is not what the model takes."""


def reads_texts(card: ModelCard) -> bool:
    """Tell whether a model reads texts; the others see pictures."""
    return isinstance(card.input, TokenCard)


def words(card: ModelCard, given: Sequence[str]) -> Iterator[Sample]:
    """Yield texts that are given one by one; a model of pairs takes two at a time.

    Raises:
        WrongInput: One is the name of a file, or a model of pairs gets an odd number.
    """
    if files := [text for text in given if _is_file(text)]:
        raise WrongInput(
            f"{files[0]!r} is a file, and this model reads texts: give them in quotes, or a table by --file"
        )
    width = _width(card)
    if len(given) % width:
        raise WrongInput("this model reads pairs of texts: give two for each prediction")
    for start in range(0, len(given), width):
        yield _sample(given[start : start + width])


def lines(card: ModelCard, read: Iterable[bytes]) -> Iterator[Sample]:
    """Yield the texts of lines; those of a pair have a tab between them. Empty lines are none."""
    width = _width(card)
    for number, line in enumerate(read, 1):
        try:
            texts = line.decode().rstrip("\r\n").split("\t")
        except UnicodeDecodeError:
            yield _bad(number, "is not UTF-8")
            continue
        if width == 1:
            texts = ["\t".join(texts)]
        if not any(text.strip() for text in texts):
            continue
        if len(texts) == width:
            yield _sample(texts, number)
        else:
            yield _bad(number, "is not a pair: two texts with a tab between them")


def table(card: ModelCard, path: Path, columns: Sequence[str]) -> Iterator[Sample]:
    """Yield the texts of a CSV or JSONL file.

    Args:
        card: The model's card.
        path: The file; one whose name ends in .jsonl has an object in each line.
        columns: The columns of the texts; none takes those that the model learned from.

    Raises:
        WrongInput: The columns are not as many as the model takes.
        DataError: The file is missing or no table, or lacks a column.
    """
    width = _width(card)
    columns = columns or card.texts
    if len(columns) != width:
        raise WrongInput(
            f"this model reads {'pairs of texts' if width == 2 else 'single texts'}: "
            f"give --text COLUMN {'twice' if width == 2 else 'once'}"
        )
    form = "jsonl" if path.suffix in (".jsonl", ".ndjson") else "csv"
    try:
        yield from map(partial(_row, columns), rows(path, form, columns, columns))
    except MissingColumns as error:
        names = ", ".join(map(repr, error.missing))
        raise WrongInput(f"{path}: has no column {names}; name {_COLUMNS[width]}") from error


def _row(columns: Sequence[str], row: Row) -> Sample:
    try:
        content = content_of(row, columns)
    except ValueError as error:
        return _bad(row.line, str(error))
    return _sample((content,) if isinstance(content, str) else content, row.line)


def _bad(line: int, reason: str) -> Sample:
    return Sample(f"line {line}", Unreadable(reason), told={"line": line})


def _width(card: ModelCard) -> int:
    return max(1, len(card.texts))


def _sample(texts: Sequence[str], line: int | None = None) -> Sample:
    content: Content = texts[0] if len(texts) == 1 else (texts[0], texts[1])
    told = {"text": texts[0]} if len(texts) == 1 else {"texts": list(texts)}
    if line is None:
        return Sample(" | ".join(map(_shown, texts)), content, told=told)
    return Sample(f"line {line}", content, told={"line": line, **told})


def _shown(text: str) -> str:
    line = " ".join(text.split()) or repr(text)
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # A name that the file system does not take.
        return False
