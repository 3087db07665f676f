"""Requests that wait for the bell, on the event loop."""

import asyncio
from dataclasses import dataclass, field


@dataclass
class Waiters:
    """Everyone who waits is woken by the next ring; who arms before looking misses none."""

    _loop: asyncio.AbstractEventLoop | None = None
    _next: asyncio.Event = field(default_factory=asyncio.Event)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that the waiting requests run on."""
        self._loop = loop

    def ring(self) -> None:
        """Wake everyone; may be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        woken, self._next = self._next, asyncio.Event()
        woken.set()

    def arm(self) -> asyncio.Event:
        """The event that the next ring sets."""
        return self._next


async def wait(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for a ring, at most so long; tells whether it rang."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
