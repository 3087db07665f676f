"""Names that a record, an answer of the service and a model's file can hold."""

from collections.abc import Sequence

from worker.data.errors import ClassNameUnreadable


def check(classes: Sequence[str]) -> None:
    """Refuse a name that is not text: it would be met only when the winner is written to its file.

    A folder's name is bytes. Those that are no UTF-8 come as lone surrogates (PEP 383), which no file of ours can hold.

    Raises:
        ClassNameUnreadable: A class has such a name.
    """
    unreadable = [name for name in classes if not _is_text(name)]
    if unreadable:
        raise ClassNameUnreadable([_escaped(name) for name in unreadable])


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _escaped(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
