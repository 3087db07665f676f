"""The guard in front of everything."""

import asyncio
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import binary, text

from service.api.security import Guard

TOKEN = "s3cr3t-t0ken"
Header = tuple[bytes, bytes]


def passes(
    token: str | None,
    headers: Iterable[Header] = (),
    *,
    path: str = "/v1/studies",
    kind: str = "http",
    method: str = "GET",
) -> bool:
    """Whether the guard lets the request through to the application."""
    return not answered(token, headers, path=path, kind=kind, method=method)


def answered(
    token: str | None,
    headers: Iterable[Header] = (),
    *,
    path: str = "/v1/studies",
    kind: str = "http",
    method: str = "GET",
) -> list[Any]:
    """What the guard itself answers the request with: nothing where it lets it through."""
    came_in: list[str] = []
    messages: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        came_in.append(scope["path"])

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        messages.append(message)

    scope = {"type": kind, "path": path, "headers": list(headers)}
    if kind == "http":
        scope["method"] = method
    asyncio.run(Guard(app, token)(scope, receive, send))
    assert bool(messages) == (came_in == [])
    return messages


def bearer(credentials: bytes) -> list[Header]:
    return [(b"authorization", b"Bearer " + credentials)]


def test_the_token_lets_in() -> None:
    assert passes(TOKEN, bearer(TOKEN.encode()))
    assert passes(TOKEN, bearer(b"  " + TOKEN.encode() + b" "))


@given(binary(max_size=30))
def test_no_other_bytes_let_in(credentials: bytes) -> None:
    assert passes(TOKEN, bearer(credentials)) == (credentials.strip() == TOKEN.encode())


@given(text(max_size=30))
def test_no_path_but_the_probes_is_public(path: str) -> None:
    assert passes(TOKEN, path=path) == (path in ("/livez", "/readyz"))


@pytest.mark.parametrize("token", [TOKEN, None])
def test_a_web_socket_is_refused_as_a_request_is(token: str | None) -> None:
    assert not passes(token, [(b"host", b"evil.example")], kind="websocket")


def test_the_life_of_the_application_is_no_request() -> None:
    assert passes(TOKEN, kind="lifespan")


def test_a_header_that_comes_twice_counts_as_none() -> None:
    ours, another = (b"host", b"localhost"), (b"host", b"evil.example")
    assert passes(None, [ours])
    assert not passes(None, [ours, another])
    assert not passes(None, [another, ours])
    assert not passes(None)


@pytest.mark.parametrize(
    "host",
    [b"localhost.evil", b"127.0.0.1.evil:80", b"evil:localhost", b"10.0.0.7", b"[::2]", b""],
)
def test_a_host_that_is_not_this_machine_is_refused(host: bytes) -> None:
    assert not passes(None, [(b"host", host)])


@given(binary(max_size=20))
def test_any_host_gets_an_answer(host: bytes) -> None:
    assert not passes(None, [(b"host", b"x" + host)])


WRITES = ("POST", "PUT", "PATCH", "DELETE", "TRACE")
HOST = (b"host", b"localhost:8000")
SAME, NONE, SITE, CROSS = (
    (b"sec-fetch-site", value)
    for value in (b"same-origin", b"none", b"same-site", b"cross-site")
)
OURS, OTHERS = (b"origin", b"http://LocalHost:8000"), (b"origin", b"http://localhost:3000")
OPAQUE = (b"origin", b"null")


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    "headers",
    [[], [SAME], [NONE], [OURS], [(b"origin", b"https://localhost:8000")], [SAME, OTHERS]],
)
def test_programs_and_the_services_own_pages_may_write(
    method: str, headers: list[Header]
) -> None:
    assert passes(None, [HOST, *headers], method=method)
    assert passes(TOKEN, [HOST, *bearer(TOKEN.encode()), *headers], method=method)


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        [SITE],
        [CROSS],
        [CROSS, OURS],
        [(b"sec-fetch-site", b"")],
        [SAME, CROSS],
        [OTHERS],
        [OPAQUE],
        [(b"origin", b"")],
        [OURS, OTHERS],
        [(b"origin", b"http://localhost:8000.evil.example")],
        [(b"origin", b"localhost:8000")],
    ],
)
def test_a_page_of_another_origin_may_read_alone(method: str, headers: list[Header]) -> None:
    assert not passes(None, [HOST, *headers], method=method)
    assert not passes(TOKEN, [HOST, *bearer(TOKEN.encode()), *headers], method=method)
    for reading in ("GET", "HEAD", "OPTIONS"):
        assert passes(None, [HOST, *headers], method=reading)


def test_a_page_of_another_origin_opens_no_web_socket() -> None:
    assert passes(None, [HOST, OURS], kind="websocket")
    assert not passes(None, [HOST, OTHERS], kind="websocket")


def test_an_unnamed_host_is_nobodys_origin() -> None:
    assert not passes(TOKEN, [*bearer(TOKEN.encode()), OPAQUE], method="POST")


@pytest.mark.parametrize("method", ["GET", "HEAD", *WRITES, "OPTIONS"])
def test_a_browser_is_asked_for_a_password_to_read_and_lets_in_by_it_to_read(
    method: str,
) -> None:
    reads = method in ("GET", "HEAD")
    start, _body = answered(TOKEN, method=method)
    asked = [value for name, value in start["headers"] if name == b"www-authenticate"]
    bearers, basics = b'Bearer realm="trimtab"', b'Basic realm="trimtab", charset="UTF-8"'
    assert asked == ([bearers, basics] if reads else [bearers])
    password = b64encode(b"anyone:" + TOKEN.encode())
    assert passes(TOKEN, [(b"authorization", b"Basic " + password)], method=method) == reads
