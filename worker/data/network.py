"""Limits for downloads."""

import socket
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def patience(seconds: float) -> Generator[None]:
    """Limit every wait for the network in the block to this many seconds.

    torch.hub sets no limit: behind a firewall that drops packets it would wait for ever.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
