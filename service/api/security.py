"""Who may come in: ASGI middleware in front of everything, mounted applications included; default deny."""

import base64
import binascii
import hmac
import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import respond
from trimtab.contract.problems import BadHost, Problem, Unauthorized

PUBLIC = frozenset({"/livez", "/readyz"})


@dataclass(frozen=True)
class Guard:
    """Lets a request through that carries the token; without a token, one that asks for this machine by name.

    The second rule keeps a web page in the user's browser from reaching an open service by DNS rebinding.
    """

    app: ASGIApp
    token: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass lifespan events and allowed requests on; answer the others, web sockets too."""
        if scope["type"] != "lifespan" and (problem := self._refusal(scope)) is not None:
            await respond(problem)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        if self.token is None:
            return None if _is_loopback(_only(scope, b"host")) else BadHost()
        if scope["path"] in PUBLIC or self._knows_token(_only(scope, b"authorization")):
            return None
        return Unauthorized()

    def _knows_token(self, authorization: bytes) -> bool:
        scheme, _, credentials = authorization.partition(b" ")
        given = credentials.strip()
        if (
            scheme.lower() == b"basic"
        ):  # what a browser can send to the dashboard: any user, the token as password
            given = _password(given)
        elif scheme.lower() != b"bearer":
            return False
        assert self.token is not None  # noqa: S101 - only asked where there is one
        return hmac.compare_digest(given, self.token.encode())


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


def _only(scope: Scope, header: bytes) -> bytes:
    """The header's value; of two, of which others could have read either, none."""
    values = [value for name, value in scope["headers"] if name == header]
    return values[0] if len(values) == 1 else b""


@lru_cache(maxsize=64)
def _is_loopback(host: bytes) -> bool:
    name = host.decode("latin-1").lower()
    without_port = name if name.endswith("]") else name.rsplit(":", 1)[0]
    if without_port == "localhost":
        return True
    try:
        return ipaddress.ip_address(without_port.strip("[]")).is_loopback
    except ValueError:
        return False
