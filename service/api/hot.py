"""A short way to the verbs that workers call all the time.

FastAPI's own way through middleware, routing and dependencies costs about as much CPU as storing a report. The routes
stay declared there, for the document and for everything unusual; this takes the ordinary requests to them out of the
stream: same path, same reading of the body, same validation, same answers.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import structlog
from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.bodies import parse
from service.api.problems import respond
from trimtab.contract.message import Message
from trimtab.contract.problems import Problem

M = TypeVar("M")

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PATH = re.compile(rf"/v1/leases(?:/({_UUID})(/[a-z]+))?")
NO_LEASE = "00000000-0000-0000-0000-000000000000"
ORDINARY_BYTES = 16 * 1024
"""Larger bodies, and such without a length, go FastAPI's way, which counts them."""


@dataclass(frozen=True)
class HotVerb(Generic[M]):
    """A method, a path with one lease id (or none, without a suffix), the body's type, and the verb itself."""

    method: str
    suffix: str
    body: TypeAdapter[M]
    verb: Callable[[UUID, M], Awaitable[Message | None]]
    """Answers None when FastAPI's way has to."""


class HotPath:
    """Answers ordinary requests of the hot verbs; passes all others on."""

    def __init__(
        self, app: ASGIApp, verbs: Sequence[HotVerb[Any]], check: Callable[[], None]
    ) -> None:
        self._app = app
        self._verbs = {(verb.method, verb.suffix): verb for verb in verbs}
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one request."""
        if scope["type"] == "http" and (match := _PATH.fullmatch(scope["path"])):
            lease, suffix = match.groups()
            verb = self._verbs.get((scope["method"], suffix or ""))
            if verb is not None and _is_ordinary(scope):
                await self._answer(verb, UUID(lease or NO_LEASE), scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _answer(
        self, verb: HotVerb[Any], lease: UUID, scope: Scope, receive: Receive, send: Send
    ) -> None:
        body = await _read(receive)
        try:
            message = verb.body.validate_python(parse(body))
        except (ValidationError, Problem):
            answer = None  # FastAPI's way has the words for it
        else:
            answer = await self._said(verb, lease, message, scope["path"])
        if answer is None:
            await self._app(scope, _again(body, receive), send)
        elif isinstance(answer, Problem):
            await respond(answer)(scope, receive, send)
        else:
            await _send_json(answer.model_dump_json().encode(), send)

    async def _said(
        self, verb: HotVerb[M], lease: UUID, message: M, path: str
    ) -> Message | Problem | None:
        try:
            self._check()
            return await verb.verb(lease, message)
        except Problem as problem:
            return problem
        except Exception as error:  # noqa: BLE001 - the last resort, as FastAPI's own
            structlog.get_logger(__name__).error("unhandled", path=path, exc_info=error)
            return Problem("The service met an error of its own.")


def _is_ordinary(scope: Scope) -> bool:
    length, content_type = -1, b""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"content-type":
            content_type = value
    return 0 < length <= ORDINARY_BYTES and content_type == b"application/json"


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, and then what comes after it."""
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
