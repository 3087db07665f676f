"""Files as answers."""

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send


class WholeFile(FileResponse):
    """A file, always whole: a Range header is passed over, as RFC 9110 section 14.2 allows.

    Starlette's answers to ranges that it cannot serve are no problem documents, and nobody here asks for parts.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self.headers["accept-ranges"] = "none"
        headers = [pair for pair in scope["headers"] if pair[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)
