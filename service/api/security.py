"""Who may come in: ASGI middleware in front of everything, mounted applications included; default deny."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import respond
from trimtab.contract.problems import BadHost, CrossOrigin, Problem, Unauthorized
from trimtab.loopback import is_loopback

PUBLIC = frozenset({"/livez", "/readyz"})
READING = frozenset({"GET", "HEAD"})
SAFE = READING | {"OPTIONS"}


@dataclass(frozen=True)
class Guard:
    """Lets a request through that carries the token; without a token, one that asks for this machine by name.

    The second rule keeps a web page in the user's browser from reaching an open service by DNS rebinding. Neither
    keeps out a page that sends a form, or that the browser gives the password of its user to: whatever page of another
    origin sends may read only.
    """

    app: ASGIApp
    token: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass lifespan events and allowed requests on; answer the others, web sockets too."""
        if scope["type"] != "lifespan" and (problem := self._refusal(scope)) is not None:
            response = respond(problem)
            if isinstance(problem, Unauthorized) and scope.get("method") in READING:
                # In a header of its own: Chromium takes no scheme from one that begins with Bearer.
                response.headers.append(
                    "WWW-Authenticate", 'Basic realm="trimtab", charset="UTF-8"'
                )
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        if self.token is None:
            if not _is_loopback(_only(scope, b"host")):
                return BadHost()
        elif scope["path"] not in PUBLIC and not self._knows_token(scope):
            return Unauthorized()
        return CrossOrigin() if _is_foreign_write(scope) else None

    def _knows_token(self, scope: Scope) -> bool:
        scheme, _, credentials = _only(scope, b"authorization").partition(b" ")
        given = credentials.strip()
        # What a browser can send to the dashboard: any user, the token as password. It sends it unasked from then on.
        if scheme.lower() == b"basic" and scope.get("method") in READING:
            given = _password(given)
        elif scheme.lower() != b"bearer":
            return False
        assert self.token is not None  # noqa: S101 - only asked where there is one
        return hmac.compare_digest(given, self.token.encode())


def _is_foreign_write(scope: Scope) -> bool:
    """Whether a page of another origin asks for a change; the rule of Go's `http.CrossOriginProtection`.

    Every browser says where a request is from: Sec-Fetch-Site where the connection is private (https, this machine),
    Origin everywhere. A program says neither. Origin is compared with the Host header, so a proxy that hides the latter
    serves browsers by https.
    """
    if scope.get("method") in SAFE:
        return False
    if sites := _all(scope, b"sec-fetch-site"):
        return sites not in ([b"same-origin"], [b"none"])
    origins = [origin.lower() for origin in _all(scope, b"origin")]
    if not origins:
        return False
    host = _only(scope, b"host").lower()
    return origins not in ([b"http://" + host], [b"https://" + host])


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


def _only(scope: Scope, header: bytes) -> bytes:
    """The header's value; of two, of which others could have read either, none."""
    values = _all(scope, header)
    return values[0] if len(values) == 1 else b""


def _all(scope: Scope, header: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == header]


@lru_cache(maxsize=64)
def _is_loopback(host: bytes) -> bool:
    name = host.decode("latin-1").lower()
    without_port = name if name.endswith("]") else name.rsplit(":", 1)[0]
    return is_loopback(without_port)
