"""The service's token in a file: a command line or a job's environment would show it to others."""

import os
import stat
from pathlib import Path

MOST_BYTES = 4096


class TokenUnusable(Exception):
    """The file of the token cannot be used; the message says why, and what to do."""


def read(path: Path) -> str:
    """Return the token in a file that its owner alone can read.

    Raises:
        TokenUnusable: there is no such file, others can read it, or there is no token in it.
    """
    try:
        # Of what was opened, not of what the name meant a moment ago.
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MOST_BYTES)
    except OSError as error:
        raise TokenUnusable(
            f"the token file {path} cannot be read: {error.strerror}"
        ) from error
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise TokenUnusable(
            f"others can read the token file {path} (its mode is {stat.S_IMODE(mode):04o}): "
            f"run `chmod 600 {path}`, and think of a new token"
        )
    return checked(content.decode("ascii", "replace").strip(), f"the token file {path}")


def checked(token: str, place: str) -> str:
    """Return a token that can be sent and stored on one line.

    Raises:
        TokenUnusable: it is none; the message names the place that it came from.
    """
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise TokenUnusable(f"{place} must have the token and nothing else, on one line")
    return token
