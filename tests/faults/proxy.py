"""A TCP proxy that misbehaves on request: cuts, refuses, delays, swallows, loses answers, sends requests twice.

All proxies live on one event loop in a thread of its own; the switches of a proxy are plain attributes that any thread may set.
"""

import asyncio
import contextlib
import json
import random
import re
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.faults.log import Log

LOOK_EVERY_S = 0.02
TWICE_WITHIN_S = 0.4
LARGEST_COPY_BYTES = 65536
LINGER_S = 2.0


class Network:
    """The event loop that all proxies of a cluster share."""

    def __init__(self) -> None:
        self.proxies: list[Proxy] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="network", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.do(self._end()).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        """Run something on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def proxy(
        self, upstreams: Callable[[], Sequence[int]], seed: int, copies: Log | None = None
    ) -> "Proxy":
        """A new proxy on a free loopback port.

        Args:
            upstreams: the loopback ports to choose from for each connection.
            seed: of its chances.
            copies: of an HTTP proxy: the journal of the requests that it sends twice.
        """
        proxy = Proxy(self, upstreams, random.Random(seed), copies)
        self.do(proxy.listen()).result(10)
        self.proxies.append(proxy)
        return proxy

    async def _end(self) -> None:
        """Leave no socket open; one whose task were cancelled before it had begun would be."""
        for proxy in self.proxies:
            proxy.stop_accepting()
        # What was accepted last begins only in the loop's next round, and not on a closed server.
        await asyncio.sleep(0)
        for proxy in self.proxies:
            proxy.end()
        while len(asyncio.all_tasks()) > 1:
            await self._cut_all()
            await asyncio.sleep(LOOK_EVERY_S)
        await self._cut_all()
        # What was cut is closed in the round after.
        await asyncio.sleep(0)

    async def _cut_all(self) -> None:
        for proxy in self.proxies:
            await proxy.cut_here()


@dataclass(eq=False)
class Proxy:
    """One listening port and its switches."""

    _network: Network
    _upstreams: Callable[[], Sequence[int]]
    _chance: random.Random
    _copies: Log | None
    _server: asyncio.Server | None = None
    port: int = 0
    refusing: bool = False
    """Accept and close at once."""
    black_hole: bool = False
    """Keep everything back; it arrives when this ends, even if its sender has given up meanwhile."""
    delay_s: float = 0.0
    """Keep each piece back for up to so long."""
    twice: float = 0.0
    """The chance that a request is sent a second time, over another connection."""
    losing: float = 0.0
    """The chance that an answer is lost with its connection."""
    _open: weakref.WeakSet[asyncio.WriteTransport] = field(
        default_factory=weakref.WeakSet[asyncio.WriteTransport]
    )
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])

    async def listen(self) -> None:
        """Begin to accept."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop_accepting(self) -> None:
        """Leave new connections to wait."""
        for listener in self._server.sockets if self._server else ():
            asyncio.get_running_loop().remove_reader(listener.fileno())

    def end(self) -> None:
        """Keep nothing back, and listen no more."""
        self.heal()
        if self._server is not None:
            self._server.close()

    def cut(self) -> None:
        """Close every connection now."""
        self._network.do(self.cut_here()).result(10)

    async def cut_here(self) -> None:
        """The same, on the loop."""
        for transport in self._open:
            transport.abort()

    def heal(self) -> None:
        """Behave."""
        self.refusing = self.black_hole = False
        self.delay_s = self.twice = self.losing = 0.0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer.transport)
        with contextlib.suppress(OSError):
            try:
                if not self.refusing:
                    await self._join(reader, writer)
            finally:
                _close(writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await self._dial()
        asked = asyncio.create_task(self._pump(reader, up_writer, self._watch_requests()))
        told = asyncio.create_task(self._pump(up_reader, writer, self._lose_answers))
        try:
            done, _ = await asyncio.wait({asked, told}, return_when=asyncio.FIRST_COMPLETED)
            if asked in done:
                await asyncio.wait({told}, timeout=LINGER_S)
        finally:
            asked.cancel()
            told.cancel()
            await asyncio.gather(asked, told, return_exceptions=True)
            _close(up_writer)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ports = list(self._upstreams())
        self._chance.shuffle(ports)
        for port in ports:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                self._open.add(writer.transport)
                return reader, writer
        raise ConnectionRefusedError

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        pass_on: Callable[[bytes], bool],
    ) -> None:
        while data := await source.read(65536):
            await self._keep_back()
            if not pass_on(data):
                return
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()

    async def _keep_back(self) -> None:
        if self.delay_s:
            await asyncio.sleep(self._chance.uniform(0, self.delay_s))
        while self.black_hole:
            await asyncio.sleep(LOOK_EVERY_S)

    def _lose_answers(self, _data: bytes) -> bool:
        return not (self.losing and self._chance.random() < self.losing)

    def _watch_requests(self) -> Callable[[bytes], bool]:
        splitter = Splitter()

        def watch(data: bytes) -> bool:
            for request in splitter.feed(data) if self._copies is not None else ():
                if self.twice and self._chance.random() < self.twice:
                    self._spawn(self._send_again(request))
            return True

        return watch

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_again(self, request: "Request") -> None:
        assert self._copies is not None
        await asyncio.sleep(self._chance.uniform(0, TWICE_WITHIN_S))
        op = self._copies.invoke(request.method, request.path, request.json())
        try:
            reader, writer = await self._dial()
            try:
                writer.write(request.whole)
                async with asyncio.timeout(15):
                    status, answer = await _read_answer(reader)
            finally:
                _close(writer)
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as error:
            self._copies.unanswered(op, type(error).__name__)
        else:
            self._copies.answered(op, status, answer)


@dataclass(frozen=True)
class Request:
    """One whole HTTP request."""

    method: str
    path: str
    body: bytes
    whole: bytes

    def json(self) -> Any:
        """The body, where it is JSON."""
        with contextlib.suppress(ValueError):
            return json.loads(self.body)
        return None


@dataclass
class Splitter:
    """Cuts a stream of HTTP/1.1 requests into requests; those too long to copy are passed over."""

    _rest: bytes = b""
    _skip: int = 0

    def feed(self, data: bytes) -> list[Request]:
        """Add bytes; returns the requests that they complete."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._rest += data[skipped:]
        found: list[Request] = []
        while b"\r\n\r\n" in self._rest:
            head, _, rest = self._rest.partition(b"\r\n\r\n")
            length = _content_length(head)
            if length > LARGEST_COPY_BYTES:
                self._skip = max(0, length - len(rest))
                self._rest = rest[length:]
                continue
            if len(rest) < length:
                break
            method, path = head.split(b" ", 2)[:2]
            whole = head + b"\r\n\r\n" + rest[:length]
            found.append(Request(method.decode(), path.decode(), rest[:length], whole))
            self._rest = rest[length:]
        return found


def _content_length(head: bytes) -> int:
    match = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(match[1]) if match else 0


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(_content_length(head))
    status = int(head.split(b" ", 2)[1])
    return status, json.loads(body) if body and b"json" in head else None


def _close(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(RuntimeError):
        writer.close()
