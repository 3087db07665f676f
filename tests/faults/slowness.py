"""Notes when the machine itself was slow, so that nobody is blamed for what its other tenants do."""

import os
import threading
import time
from collections.abc import Callable, Generator, MutableSequence
from contextlib import contextmanager
from pathlib import Path

from tests.faults.log import Window

LOOK_EVERY_S = 0.5
SLOW_S = 0.5
"""What takes a few milliseconds on a quiet machine has taken so long."""
COUNT_TO = 20_000


@contextmanager
def noted(windows: MutableSequence[Window], folder: Path) -> Generator[None]:
    """Note each time in which a little arithmetic and one small write to disk below `folder` took too long."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_EVERY_S):
            look(windows, lambda: _work(folder / "slowness"))

    thread = threading.Thread(target=watch, name="slowness", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def look(
    windows: MutableSequence[Window],
    work: Callable[[], None],
    now: Callable[[], float] = time.time,
) -> None:
    """Do the work once, and note it if it took too long."""
    began = now()
    work()
    if (ended := now()) - began > SLOW_S:
        windows.append(Window("slow", "machine", began, ended))


def _work(path: Path) -> None:
    sum(range(COUNT_TO))
    with path.open("wb") as file:
        file.write(b"slow?")
        file.flush()
        os.fsync(file.fileno())
