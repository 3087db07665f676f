"""The Optuna Dashboard behind a dispatcher that lets only its own paths through, and only to read.

It is not mounted at "/": a mount there swallows our 404 and 405. Its paths are absolute, so it cannot have a prefix.
Its write routes have no authentication of their own; one of them can break every listing of studies.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from trimtab.contract.problems import MethodNotAllowed, Problem

FOLDERS = frozenset({"dashboard", "api", "static", "csv", "artifacts"})
READING = ("GET", "HEAD")


@dataclass
class Dispatcher:
    """Sends the dashboard's paths to the dashboard, made on first use, and everything else to `app`."""

    app: ASGIApp
    check: Callable[[], None]
    """Raises a problem while there is no database to read: the dashboard itself would answer 500."""
    make: Callable[[], ASGIApp]
    refuse: Callable[[Problem, Mapping[str, str]], ASGIApp]
    _dashboard: ASGIApp | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one request."""
        if scope["type"] != "http" or not is_dashboard(scope["path"]):
            await self.app(scope, receive, send)
            return
        if scope["method"] not in READING:
            problem = MethodNotAllowed("The dashboard is read-only here.")
            await self.refuse(problem, {"Allow": ", ".join(READING)})(scope, receive, send)
            return
        try:
            dashboard = await run_in_threadpool(self._ready)
        except Problem as problem:
            await self.refuse(problem, {})(scope, receive, send)
            return
        await dashboard(_with_encoding(scope), receive, send)

    def _ready(self) -> ASGIApp:
        self.check()
        with self._lock:
            if self._dashboard is None:
                self._dashboard = self.make()
            return self._dashboard


def is_dashboard(path: str) -> bool:
    """Whether the path belongs to the dashboard."""
    beginning, _, rest = path.partition("/")
    return not beginning and (rest == "favicon.ico" or rest.partition("/")[0] in FOLDERS)


def _with_encoding(scope: Scope) -> Scope:
    """The dashboard's static files answer 500 to a request without Accept-Encoding."""
    headers: list[tuple[bytes, bytes]] = list(scope["headers"])
    if any(name == b"accept-encoding" for name, _ in headers):
        return scope
    return {**scope, "headers": [*headers, (b"accept-encoding", b"identity")]}


def optuna_dashboard(storage: Any) -> ASGIApp:
    """The dashboard over a cached Optuna storage."""
    a2wsgi: Any = import_module(
        "a2wsgi"
    )  # both cost a second, and most services are never looked at
    dashboard: Any = import_module("optuna_dashboard")
    return cast(ASGIApp, a2wsgi.WSGIMiddleware(dashboard.wsgi(storage), workers=4))
