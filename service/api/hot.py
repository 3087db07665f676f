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
ORDINARY_BYTES = 16 * 1024
"""Larger bodies, and such without a length, go FastAPI's way, which counts them."""


@dataclass(frozen=True)
class HotVerb(Generic[M]):
    """A method and a path with one lease id, the body's type, and the verb itself."""

    method: str
    suffix: str
    body: TypeAdapter[M]
    verb: Callable[[UUID, M], Awaitable[Message]]

    def lease_of(self, scope: Scope) -> UUID | None:
        """The lease that the request names, if it is one of this verb's."""
        if scope["method"] != self.method:
            return None
        match = re.fullmatch(rf"/v1/leases/({_UUID}){re.escape(self.suffix)}", scope["path"])
        return UUID(match[1]) if match else None


@dataclass(frozen=True)
class HotPath:
    """Answers ordinary requests of the hot verbs; passes all others on."""

    app: ASGIApp
    verbs: Sequence[HotVerb[Any]]
    check: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one request."""
        if scope["type"] == "http" and _is_ordinary(scope):
            for verb in self.verbs:
                if (lease := verb.lease_of(scope)) is not None:
                    await self._answer(verb, lease, scope, receive, send)
                    return
        await self.app(scope, receive, send)

    async def _answer(
        self, verb: HotVerb[Any], lease: UUID, scope: Scope, receive: Receive, send: Send
    ) -> None:
        body = await _read(receive)
        try:
            message = verb.body.validate_python(parse(body))
        except (ValidationError, Problem):
            await self.app(scope, _again(body), send)  # FastAPI's way has the words for it
            return
        try:
            self.check()
            answer = await verb.verb(lease, message)
        except Problem as problem:
            await respond(problem)(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - the last resort, as FastAPI's own
            structlog.get_logger(__name__).error(
                "unhandled", path=scope["path"], exc_info=error
            )
            await respond(Problem("The service met an error of its own."))(scope, receive, send)
        else:
            await _send_json(answer.model_dump_json().encode(), send)


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


def _again(body: bytes) -> Receive:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _send_json(body: bytes, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
