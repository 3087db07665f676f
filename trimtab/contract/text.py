"""What may stand in text that ends up in Postgres."""

import re

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def refuse_surrogates_and_nul(value: object) -> object:
    """Raise ValueError for text that Postgres (NUL) or UTF-8 (lone surrogates) cannot hold."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("must not contain NUL")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("must not contain lone surrogates")
    return value


def storable(text: str) -> str:
    """The text with a replacement character for each one that cannot be stored."""
    return _UNSTORABLE.sub("\ufffd", text)
