"""A disk whose user dies: after so many steps nothing is written, renamed or removed any more."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

STEPS = (
    (Path, "write_bytes"),
    (Path, "write_text"),
    (Path, "replace"),
    (Path, "unlink"),
    (os, "fsync"),
)


class Killed(BaseException):
    """What kill -9 would do: no code of the process runs to any effect after it."""


@contextmanager
def dying_after(steps: int) -> Generator[None]:
    """Kill whoever uses the disk in the block once it has taken so many steps; a write is cut in half."""
    left = steps

    def mortal(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def take(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0 and name == "write_bytes":
                path, content = args
                step(path, content[: len(content) // 2])
            if left <= 0:
                left = -1
                raise Killed
            left -= 1
            return step(*args, **kwargs)

        return take

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in STEPS:
            patch.setattr(owner, name, mortal(name, getattr(owner, name)))
        with suppress(Killed):
            yield
