"""One after the other: what several workers of a machine need is fetched by one of them, while the others wait."""

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from worker.fetching.errors import Abandoned

GoOn = Callable[[float], bool]
"""Waits for so many seconds, or less; false when the fetch is to be left."""
_LOOK_S = 0.2


@contextmanager
def turn(lock: Path, go_on: GoOn) -> Generator[None]:
    """Wait until nobody else has the lock, and keep it.

    Raises:
        Abandoned: `go_on` said so.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    # A lock of the system, which goes with its process however that ends; so its file may stay.
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        while not _is_ours(descriptor):
            if not go_on(_LOOK_S):
                raise Abandoned
        yield
    finally:
        os.close(descriptor)


def _is_ours(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
