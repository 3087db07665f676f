"""The dispatcher before the dashboard: only its own paths, only to read, only while there is a database."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import sampled_from, text
from starlette.responses import Response
from starlette.types import ASGIApp

from service.pages.dashboard import FOLDERS, Dispatcher
from trimtab.contract.problems import Problem, Unavailable

PREFIXES = [f"/{folder}" for folder in sorted(FOLDERS)]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "FOO"]


def reached(method: str, path: str, *, is_ready: bool = True) -> str:
    """Who answers the request: api, dashboard, or the name of the problem that refuses it."""
    answered: list[str] = []

    def answering(name: str) -> ASGIApp:
        async def app(_scope: Any, _receive: Any, _send: Any) -> None:
            answered.append(name)

        return app

    def check() -> None:
        if not is_ready:
            raise Unavailable

    def refuse(problem: Problem, _headers: Mapping[str, str]) -> ASGIApp:
        return answering(type(problem).__name__)

    dispatcher = Dispatcher(answering("api"), check, lambda: answering("dashboard"), refuse)
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": []}
    asyncio.run(dispatcher(scope, None, None))  # pyright: ignore[reportArgumentType] - nobody speaks
    (name,) = answered
    return name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", [*PREFIXES, "/api/trials/1/tell", "/favicon.ico"])
def test_the_dashboard_is_only_read(method: str, path: str) -> None:
    expected = "dashboard" if method in ("GET", "HEAD") else "MethodNotAllowed"
    assert reached(method, path) == expected


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/studies", "/dashboards", "/apis/x", "/favicon.ico/", "/v1/api/studies", "//api"],
)
@pytest.mark.parametrize("method", METHODS)
def test_every_other_path_is_ours(method: str, path: str) -> None:
    assert reached(method, path) == "api"


@given(sampled_from(PREFIXES), text(max_size=10))
def test_a_prefix_ends_with_its_segment(prefix: str, rest: str) -> None:
    is_its_own = not rest or rest.startswith("/")
    assert reached("POST", prefix + rest) == ("MethodNotAllowed" if is_its_own else "api")


@pytest.mark.parametrize(
    ("method", "answer"), [("GET", "Unavailable"), ("POST", "MethodNotAllowed")]
)
def test_without_a_database_there_is_no_dashboard(method: str, answer: str) -> None:
    assert reached(method, "/dashboard", is_ready=False) == answer
    assert reached(method, "/v1/studies", is_ready=False) == "api"


def test_the_dashboard_is_made_once_and_on_first_use() -> None:
    made: list[int] = []

    def make() -> ASGIApp:
        made.append(1)
        return Response("x")

    dispatcher = Dispatcher(Response(), lambda: None, make, lambda problem, headers: Response())
    assert made == []

    async def look() -> None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(_message: Any) -> None:
            pass

        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/dashboard"}
        scope["headers"] = []
        await asyncio.gather(*(dispatcher(scope, receive, send) for _ in range(3)))

    asyncio.run(look())
    assert made == [1]
