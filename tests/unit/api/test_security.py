"""The guard in front of everything."""

import asyncio
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
) -> bool:
    """Whether the guard lets the request through to the application."""
    came_in: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        came_in.append(scope["path"])

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        pass

    scope = {"type": kind, "path": path, "method": "GET", "headers": list(headers)}
    asyncio.run(Guard(app, token)(scope, receive, send))
    return came_in == [path]


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
