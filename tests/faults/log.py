"""What every client asked and was told: one JSON line an event, appended in one write, so that kill -9 loses nothing.

An operation is `invoke`d and ends `ok` (2xx: it happened), `fail` (4xx: it did not) or `unknown` (no answer, or a 5xx:
it may have happened). One without an end is unknown too: its client died.
"""

import json
import os
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2

Ending = Literal["ok", "fail", "unknown"]
JSON_ANSWERS = ("application/json", "application/problem+json")


@dataclass(frozen=True)
class Op:
    """One request and what became of it; times are seconds since the epoch."""

    client: str
    began: float
    ended: float | None
    ending: Ending
    method: str
    path: str
    body: Any
    status: int | None = None
    answer: Any = None

    @property
    def verb(self) -> str:
        """`claim`, `reports`, `heartbeat`, `checkpoints`, `release`, `outcome`, or the path of anything else."""
        if self.path == "/v1/leases":
            return "claim"
        if self.path.startswith("/v1/leases/"):
            return self.path.replace(":", "/").rsplit("/", 1)[1]
        return self.path

    @property
    def lease(self) -> str | None:
        """The lease that it speaks of."""
        if not self.path.startswith("/v1/leases/"):
            return None
        return self.path.removeprefix("/v1/leases/").replace(":", "/").split("/")[0]


@dataclass(frozen=True)
class Window:
    """One fault: what, whom, and from when to when (seconds since the epoch)."""

    kind: str
    target: str
    began: float
    ended: float


class Log:
    """The journal of one client, one line an event."""

    def __init__(self, path: Path, client: str) -> None:
        self._client = client
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def invoke(self, method: str, path: str, body: Any) -> str:
        """Note that a request is about to be sent; returns its id."""
        op = uuid.uuid4().hex
        self._write(op, "invoke", method=method, path=path, body=body)
        return op

    def answered(self, op: str, status: int, answer: Any) -> None:
        """Note the answer."""
        ending = "ok" if status < 400 else "fail" if status < 500 else "unknown"
        self._write(op, ending, status=status, answer=answer)

    def unanswered(self, op: str, why: str) -> None:
        """Note that no answer came."""
        self._write(op, "unknown", why=why)

    def _write(self, op: str, event: str, **more: Any) -> None:
        # Not what `time.time` says: the wall clocks of some clients are wrong on purpose.
        at = time.clock_gettime(time.CLOCK_REALTIME)
        line = {"op": op, "client": self._client, "event": event, "at": at, **more}
        os.write(self._file, json.dumps(line).encode() + b"\n")


class LoggedTransport(httpx2.BaseTransport):
    """The network of a client under test, noting each request that really goes out, retries included."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._inner = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        path = request.url.raw_path.decode()
        op = self._log.invoke(request.method, path, _body(request))
        try:
            response = self._inner.handle_request(request)
            if response.headers.get("content-type", "").startswith(JSON_ANSWERS):
                response.read()
        except BaseException as error:
            self._log.unanswered(op, type(error).__name__)
            raise
        self._log.answered(op, response.status_code, _json(response))
        return response

    def close(self) -> None:
        """Close every connection."""
        self._inner.close()


def _body(request: httpx2.Request) -> Any:
    if request.headers.get("content-type") != "application/json":
        return None
    return json.loads(request.read() or b"null")


def _json(response: httpx2.Response) -> Any:
    return json.loads(response.content) if response.is_closed and response.content else None


def read(folder: Path) -> list[Op]:
    """All operations of all clients, in the order in which they began."""
    ops = [op for path in sorted(folder.glob("*.jsonl")) for op in _ops(_lines(path))]
    return sorted(ops, key=lambda op: op.began)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def _ops(lines: Iterable[dict[str, Any]]) -> list[Op]:
    begun: dict[str, dict[str, Any]] = {}
    ends: dict[str, dict[str, Any]] = {}
    for line in lines:
        (begun if line["event"] == "invoke" else ends)[line["op"]] = line
    return [_op(line, ends.get(op)) for op, line in begun.items()]


def _op(begin: dict[str, Any], end: dict[str, Any] | None) -> Op:
    end = end or {"at": None, "event": "unknown"}
    return Op(
        client=begin["client"],
        began=begin["at"],
        ended=end["at"],
        ending=end["event"],
        method=begin["method"],
        path=begin["path"],
        body=begin["body"],
        status=end.get("status"),
        answer=end.get("answer"),
    )
