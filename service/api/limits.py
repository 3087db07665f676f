"""Bodies that are too large, refused in our own words."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import respond
from trimtab.contract.problems import PayloadTooLarge

TOO_LARGE = 413


@dataclass(frozen=True)
class TooLargeAsProblem:
    """Replaces the plain text with which FastAPI's own limit answers a Content-Length beyond it."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but that one answer."""
        replaced = False

        async def replace(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                replaced = _is_plain_refusal(message)
                if replaced:
                    await respond(PayloadTooLarge())(scope, receive, send)
            if not replaced:
                await send(message)

        await self.app(scope, receive, replace)


def _is_plain_refusal(start: Message) -> bool:
    headers = dict(start["headers"])
    return start["status"] == TOO_LARGE and headers.get(b"content-type", b"").startswith(
        b"text/plain"
    )
