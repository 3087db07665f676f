"""A lean HTTP load for benchmarks: many workers on one event loop, each living trials as a real worker does.

A worker is one keep-alive connection. Real workers sit on other machines; a lean client keeps this machine's two cores
for the service under test. Its CPU is reported apart.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

REPORTS = 10


@dataclass
class Timings:
    """Wall milliseconds of each verb, and how many trials were settled."""

    ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    trials: int = 0

    def quantile(self, verb: str, q: float) -> float:
        """The q-quantile of a verb's times, in milliseconds."""
        ordered = sorted(self.ms[verb])
        return (
            ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")
        )


class Connection:
    """One keep-alive HTTP/1.1 connection that speaks JSON."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Send one request and read its answer: (status, JSON or None)."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        payload = json.dumps(body).encode()
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
            + payload
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        length = next(
            (
                int(line[15:])
                for line in head.split("\r\n")
                if line.startswith("content-length:")
            ),
            0,
        )
        content = await reader.readexactly(length)
        return status, json.loads(content) if content else None

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


async def _live(connection: Connection, worker_id: str, timings: Timings, until: float) -> None:
    """Live one trial after another until the time is over or there is no more work."""

    async def timed(verb: str, method: str, path: str, body: Any) -> tuple[int, Any]:
        started = time.perf_counter()
        status, answer = await connection.request(method, path, body)
        timings.ms[verb].append(1e3 * (time.perf_counter() - started))
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return status, answer

    while time.monotonic() < until:
        claim = {"worker_id": worker_id, "claim_id": str(uuid4()), "wait_s": 0}
        status, answer = await timed("claim", "POST", "/v1/leases", claim)
        if status == 204:
            return
        lease = answer["leases"][0]["lease_id"]
        for step in range(REPORTS):
            report = {"reports": [{"step": step, "value": 0.5 + step / 100}]}
            await timed("report", "POST", f"/v1/leases/{lease}/reports", report)
        outcome = {"kind": "completed", "value": 0.6}
        await timed("settle", "PUT", f"/v1/leases/{lease}/outcome", outcome)
        timings.trials += 1


async def _all(url: str, clients: int, seconds: float) -> Timings:
    timings = Timings()
    connections = [Connection(url) for _ in range(clients)]
    ids: list[str] = []
    for number, connection in enumerate(connections):
        body = {"label": f"load-{number}", "device": "none"}
        _, worker = await connection.request("POST", "/v1/workers", body)
        ids.append(worker["worker_id"])
    until = time.monotonic() + seconds
    await asyncio.gather(
        *(
            _live(connection, worker_id, timings, until)
            for connection, worker_id in zip(connections, ids, strict=True)
        )
    )
    for connection in connections:
        connection.close()
    return timings


def run(url: str, clients: int, seconds: float) -> Timings:
    """Let so many workers live trials for so long; trials begun are finished."""
    return asyncio.run(_all(url, clients, seconds))


def medians(values: Sequence[float]) -> tuple[float, float, float]:
    """Minimum, median and maximum."""
    ordered = sorted(values)
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]
