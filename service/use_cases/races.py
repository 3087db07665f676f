"""Two requests at the same moment: the database's constraints decide, and the loser reads again."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import psycopg2
from sqlalchemy.exc import IntegrityError

from trimtab.contract.problems import Unavailable

T = TypeVar("T")
TRIES = 5


def again(verb: Callable[[], T]) -> T:
    """Run a verb; when a constraint refuses it, another request was served first: read again and decide anew.

    Raises:
        Unavailable: it lost every time.
    """
    for _ in range(TRIES):
        with suppress(IntegrityError, psycopg2.IntegrityError):
            return verb()
    raise Unavailable("Too many requests for the same thing at once.", retry_after_s=1.0)
