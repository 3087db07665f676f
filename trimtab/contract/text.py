"""Which characters text may contain that Postgres is to store."""

import re

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def refuse_surrogates_and_nul(value: object) -> object:
    """Return the value.

    Raises:
        ValueError: it is text with NUL, which Postgres cannot store, or with lone surrogates, which UTF-8 cannot.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("must not contain NUL")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("must not contain lone surrogates")
    return value


def storable(text: str) -> str:
    """Return the text with U+FFFD in place of each character that Postgres cannot store."""
    return _UNSTORABLE.sub("\ufffd", text)
