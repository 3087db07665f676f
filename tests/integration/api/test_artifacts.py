"""Artifacts: bytes by their sha256, whole or not at all."""

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.app import Running, a_service, refused
from tests.support.until import until

EMPTY = hashlib.sha256(b"").hexdigest()


def name_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(service: Running, content: bytes, name: str | None = None) -> int:
    address = f"/v1/artifacts/{name or name_of(content)}"
    return service.call("PUT", address, content).status_code


def files(tmp_path: Path) -> list[Path]:
    return [file for file in (tmp_path / "artifacts").rglob("*") if file.is_file()]


@pytest.mark.parametrize("size", [0, 1, 5 * 2**20])
def test_bytes_come_back_as_they_went_in(shared: Running, size: int) -> None:
    content = os.urandom(size)
    assert put(shared, content) == 201
    answer = shared.call("GET", f"/v1/artifacts/{name_of(content)}")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_stream_without_a_length_is_taken(shared: Running) -> None:
    content = os.urandom(3 * 2**20)

    def chunks() -> Iterator[bytes]:
        yield content[: 2**20]
        yield content[2**20 :]

    address = f"/v1/artifacts/{name_of(content)}"
    assert shared.http.put(address, content=chunks()).status_code == 201
    assert shared.call("GET", address).content == content


def test_other_bytes_than_named_leave_nothing(service: Running, tmp_path: Path) -> None:
    answer = service.call("PUT", f"/v1/artifacts/{EMPTY}", b"not empty")
    refused(answer, 422, "sha256-mismatch")
    refused(service.call("GET", f"/v1/artifacts/{EMPTY}"), 404, "artifact-not-found")
    assert files(tmp_path) == []


def test_other_bytes_do_not_harm_those_that_are_there(service: Running) -> None:
    assert put(service, b"good") == 201
    assert put(service, b"evil", name_of(b"good")) == 422
    assert service.call("GET", f"/v1/artifacts/{name_of(b'good')}").content == b"good"


def test_the_same_bytes_may_come_again(service: Running, tmp_path: Path) -> None:
    assert [put(service, b"again"), put(service, b"again")] == [201, 201]
    assert [file.name for file in files(tmp_path)] == [name_of(b"again")]


def test_an_interrupted_upload_leaves_nothing(service: Running, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as raw:
        raw.sendall(
            f"PUT /v1/artifacts/{EMPTY} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            "Content-Length: 1000000\r\n\r\n".encode()
            + b"x" * 1000
        )
        until(lambda: len(files(tmp_path)) == 1)
        assert refused(service.call("GET", f"/v1/artifacts/{EMPTY}"), 404, "artifact-not-found")
    until(lambda: files(tmp_path) == [])
    assert folder.is_dir()


def test_an_unknown_artifact_is_not_found(shared: Running) -> None:
    refused(shared.call("GET", f"/v1/artifacts/{'0' * 64}"), 404, "artifact-not-found")


@pytest.mark.parametrize(
    "wanted", ["bytes=0-1", "bytes=9-", "bytes=x", "bytes=" + "0-1," * 500]
)
def test_a_range_is_passed_over(shared: Running, wanted: str) -> None:
    put(shared, b"whole")
    answer = shared.call("GET", f"/v1/artifacts/{name_of(b'whole')}", headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, b"whole")
    assert answer.headers["accept-ranges"] == "none"


def test_a_folder_that_cannot_be_written_is_named(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("in the way")
    with a_service(database_url, tmp_path / "artifacts") as service:
        answer = service.call("PUT", f"/v1/artifacts/{EMPTY}", b"")
        refused(answer, 503, "storage-full")
