"""Waiting for a condition instead of sleeping for a time."""

import time
from collections.abc import Callable

LOOK_EVERY_S = 0.02


def until(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    """Look until the condition holds; fail when it still does not after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition never came"
        time.sleep(LOOK_EVERY_S)
