"""Proposals of one turn of a study's thread: all of them, or none."""

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from service.use_cases.fast.claims import entered


def test_proposals_before_one_that_fails_are_forgotten() -> None:
    told: list[str] = []

    @contextmanager
    def proposing(name: str) -> Generator[str]:
        told.append(f"{name} made")
        try:
            yield name
        except ZeroDivisionError:
            told.append(f"{name} forgotten")
            raise

    @contextmanager
    def failing() -> Generator[str]:
        raise ZeroDivisionError
        yield ""

    # Kept here: a context that nobody holds any more is closed by the interpreter, sooner or later.
    turn = [proposing("first"), proposing("second"), failing(), proposing("fourth")]
    with pytest.raises(ZeroDivisionError):
        entered(turn)  # type: ignore[arg-type]
    assert told == ["first made", "second made", "second forgotten", "first forgotten"]
