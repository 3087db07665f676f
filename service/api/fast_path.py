"""The fast path's HTTP: requests that workers send all the time, answered before FastAPI sees them.

FastAPI's middleware, routing and dependencies cost about as much CPU as storing a report. The routes stay declared
there, for the OpenAPI document and for every unusual request; this takes the usual requests to them out of the stream:
same path, same reading of the body, same validation, same answers.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar
from uuid import UUID

import structlog
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.bodies import parse
from service.api.problems import respond
from trimtab.contract.message import Message
from trimtab.contract.problems import Problem

M = TypeVar("M")

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PATH = re.compile(rf"/v1/leases(?:/({_UUID})(/[a-z]+))?")
NO_LEASE = "00000000-0000-0000-0000-000000000000"
LARGEST_FAST_BYTES = 16 * 1024
"""A larger body, or one without a length, goes to FastAPI, which counts its bytes."""


@dataclass(frozen=True)
class FastRoute(Generic[M]):
    """A route of the lease protocol that the fast path may answer.

    Attributes:
        method: the HTTP method.
        suffix: the end of the path, after the lease's id; empty: the path has no lease id.
        body: reads the message.
        verb: does what the route does, given the lease, the message and the request; None: there is nothing to say (204).
    """

    method: str
    suffix: str
    body: TypeAdapter[M]
    verb: Callable[[UUID, M, Request], Awaitable[Message | None]]


class FastRoutes:
    """Answers usual requests to the fast routes; passes all others on to FastAPI.

    Args:
        app: FastAPI's application.
        routes: the fast routes.
        check: raises a `Problem` while the service cannot answer.
    """

    def __init__(
        self, app: ASGIApp, routes: Sequence[FastRoute[Any]], check: Callable[[], None]
    ) -> None:
        self._app = app
        self._routes = {(route.method, route.suffix): route for route in routes}
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one request."""
        if scope["type"] == "http" and (match := _PATH.fullmatch(scope["path"])):
            lease, suffix = match.groups()
            route = self._routes.get((scope["method"], suffix or ""))
            if route is not None and _is_small_json(scope):
                await self._answer(route, _uuid(lease or NO_LEASE), scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _answer(
        self, route: FastRoute[Any], lease: UUID, scope: Scope, receive: Receive, send: Send
    ) -> None:
        body = await _read(receive)
        try:
            message = route.body.validate_python(parse(body))
        except (ValidationError, Problem):
            # FastAPI's error handlers have the words for it.
            await self._app(scope, _again(body, receive), send)
            return
        answer = await self._said(route, lease, message, Request(scope, receive))
        if isinstance(answer, Response):
            await answer(scope, receive, send)
        else:
            await _send_json(answer.model_dump_json().encode(), send)

    async def _said(
        self, route: FastRoute[M], lease: UUID, message: M, request: Request
    ) -> Message | Response:
        try:
            self._check()
            return await route.verb(lease, message, request) or Response(status_code=204)
        except Problem as problem:
            return respond(problem)
        except Exception as error:
            log = structlog.get_logger(__name__)
            log.error("unhandled", path=request.scope["path"], exc_info=error)
            return respond(Problem("The service met an error of its own."))


@lru_cache(maxsize=4096)
def _uuid(lease: str) -> UUID:
    """Read a lease's id, which each report of a trial repeats."""
    return UUID(lease)


def _is_small_json(scope: Scope) -> bool:
    length, content_type = -1, b""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"content-type":
            content_type = value
    return 0 < length <= LARGEST_FAST_BYTES and content_type == b"application/json"


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Hand FastAPI the body that has been read already, and then what comes after it."""
    parts = [body]

    async def again() -> MutableMapping[str, Any]:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        return await receive()

    return again


async def _send_json(body: bytes, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
