"""A web server with data sets, as ETags, ranges and redirects are meant (RFC 9110), which can also fail."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast


@dataclass
class DataServer:
    """What it offers, what it was asked, and how it fails.

    Attributes:
        url: Its address.
        files: The bytes of each file that it offers, by path; a text is an address that it leads on to.
        asked: The status and the bytes of each answer so far, by order.
        breaks_after: Answers end after so many bytes; each entry serves for one answer.
        status: The HTTP status of every answer, instead of a file; None: it serves files.
        open: Answers begin, and wait for this before their last byte.
    """

    url: str
    files: dict[str, bytes | str] = field(default_factory=dict[str, bytes | str])
    asked: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    breaks_after: list[int] = field(default_factory=list[int])
    status: int | None = None
    open: Event = field(default_factory=Event)


def tar_of(files: Mapping[str, bytes], mode: Any = "w:gz") -> bytes:
    """Return a tar file of ordinary files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tar_of_member(change: Callable[[tarfile.TarInfo], None]) -> bytes:
    """Return a tar file of one empty member, which is changed before."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("a")
        change(member)
        archive.addfile(member)
    return buffer.getvalue()


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, by their paths from its parent."""
    return {
        str(path.relative_to(folder.parent)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextmanager
def serving() -> Generator[DataServer]:
    """Run a server on this machine."""
    http = _Server()
    server = http.state
    server.open.set()
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.open.set()
        http.shutdown()
        thread.join()
        http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = DataServer(f"http://127.0.0.1:{self.server_port}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        state = cast(_Server, self.server).state
        content = state.files.get(self.path.partition("?")[0])
        if state.status is not None or content is None:
            self._say(state, state.status or 404, b"")
        elif isinstance(content, str):
            self._say(state, 302, b"", {"Location": content})
        else:
            self._file(state, content)

    def do_HEAD(self) -> None:
        state = cast(_Server, self.server).state
        self._say(state, state.status or 404, b"")

    def _file(self, state: DataServer, content: bytes) -> None:
        etag = f'"{sha256(content).hexdigest()[:16]}"'
        if self.headers["If-None-Match"] == etag:
            self._say(state, 304, b"", {"ETag": etag})
            return
        range_ = self.headers["Range"]
        if range_ and self.headers["If-Range"] == etag:
            first = int(range_.removeprefix("bytes=").removesuffix("-"))
            told = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self._say(state, 206, content[first:], {"ETag": etag, "Content-Range": told})
            return
        self._say(state, 200, content, {"ETag": etag})

    def _say(
        self,
        state: DataServer,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        sent = body[: state.breaks_after.pop(0)] if body and state.breaks_after else body
        state.asked.append((status, len(sent)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent[:-1])
        self.wfile.flush()
        state.open.wait(60)
        self.wfile.write(sent[-1:])
        self.close_connection = len(sent) < len(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its base's word
        """Say nothing."""
