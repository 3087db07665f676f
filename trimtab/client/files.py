"""Upload and download of files: a download is renamed to its place when it is whole, so that no reader sees half."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import httpx2

from trimtab.client.wire import Wire
from trimtab.contract import problems

CHUNK_BYTES = 1 << 20


def download(wire: Wire, address: str, path: Path, sha256: str | None = None) -> Path:
    """Fetch `address` into `path`; with `sha256`, refuse bytes that have another hash.

    Raises:
        problems.Sha256Mismatch: the bytes have another hash.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)

    def once() -> Path:
        with wire.stream(address, {}) as response, _beside(path) as beside:
            digest = _copy(response, beside)
            if sha256 is not None and digest != sha256:
                raise problems.Sha256Mismatch(
                    f"The bytes from {address} have the sha256 {digest}, not the one in the address."
                )
            beside.replace(path)
            return path

    return wire.retry(once)


def upload(wire: Wire, address: str, path: Path) -> None:
    """Send the file's bytes to `address`."""

    def once() -> None:
        size = path.stat().st_size
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        wire.put(address, _chunks(path), headers)

    wire.retry(once)


@contextlib.contextmanager
def _beside(path: Path) -> Generator[Path]:
    """Make a new file beside `path`, and remove it at the end unless it was renamed."""
    descriptor, name = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=".part", dir=path.parent
    )
    os.close(descriptor)
    beside = Path(name)
    # mkstemp gives the owner alone access; a downloaded file is readable by all, like any other.
    beside.chmod(0o644)
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _copy(response: httpx2.Response, beside: Path) -> str:
    digest = hashlib.sha256()
    with beside.open("wb") as file:
        for chunk in response.iter_bytes(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
