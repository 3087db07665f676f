"""Waiting for a peer that never answers is ended."""

import socket
from collections.abc import Generator

import pytest

from service.storage.watchdog import Watchdog

LONG_S = 60.0
GIVEN_UP_S = 60.0


class Link:
    """A connection as the driver has it: something with a descriptor."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def fileno(self) -> int:
        return self._line.fileno()


@pytest.fixture
def line() -> Generator[socket.socket]:
    """One end of a connection whose other end says nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(GIVEN_UP_S)
        yield ours


def test_a_read_beyond_its_time_meets_the_end_of_the_stream(line: socket.socket) -> None:
    with Watchdog().watch(Link(line), 0.0):
        assert line.recv(1) == b""


def test_only_the_one_that_is_late_is_ended(line: socket.socket) -> None:
    watchdog = Watchdog()
    ours, theirs = socket.socketpair()
    with ours, theirs, watchdog.watch(Link(ours), LONG_S):
        with watchdog.watch(Link(line), 0.0):
            assert line.recv(1) == b""
        theirs.send(b"x")
        assert ours.recv(1) == b"x"


def test_what_ended_in_time_is_left_alone(line: socket.socket) -> None:
    watchdog = Watchdog()
    with watchdog.watch(Link(line), 0.0):
        pass
    late, other = socket.socketpair()
    with late, other:
        late.settimeout(GIVEN_UP_S)
        with watchdog.watch(Link(late), 0.0):
            assert late.recv(1) == b""
    line.settimeout(0.0)
    with pytest.raises(BlockingIOError):
        line.recv(1)
