"""Waiting for a condition instead of sleeping for a time."""

import os
import time
from collections.abc import Callable

LOOK_EVERY_S = 0.02


def patience_s() -> float:
    """Return how long to wait for what a loaded machine may take long for; mutants, that never do it, are given less."""
    return float(os.environ.get("TRIMTAB_TEST_PATIENCE_S", "60"))


def until(condition: Callable[[], bool], *, within_s: float | None = None) -> None:
    """Look until the condition holds; fail when it still does not after `within_s` seconds, or `patience_s`."""
    within_s = patience_s() if within_s is None else within_s
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition never came"
        time.sleep(LOOK_EVERY_S)
