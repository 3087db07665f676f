"""What is fetched from the network."""

import socket
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def patience(seconds: float) -> Generator[None]:
    """A limit on every wait for the network; torch.hub sets none, and behind a silent firewall waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
