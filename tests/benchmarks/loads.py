"""A lean HTTP load for benchmarks: many workers on one event loop, each living trials as a real worker does.

A worker is one keep-alive connection. Real workers sit on other machines; a lean client keeps this machine's two cores
for the service under test. Its CPU is reported apart.
"""

import asyncio
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from tests.support.records import a_record

REPORTS = 10


@dataclass
class Timings:
    """Wall milliseconds of each verb, and how many trials were settled."""

    ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    trials: int = 0


class Connection:
    """One keep-alive HTTP/1.1 connection that speaks JSON."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Send one request and read its answer: (status, JSON or None)."""
        if self._streams is None or self._streams[0].at_eof():  # closed while it was idle
            self.close()
            self._streams = await asyncio.open_connection(self._host, self._port)
        try:
            return await self._exchange(self._streams, method, path, json.dumps(body).encode())
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            raise

    async def _exchange(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        method: str,
        path: str,
        payload: bytes,
    ) -> tuple[int, Any]:
        reader, writer = streams
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
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Worker:
    """A worker on a connection of its own, which notes how long each verb took."""

    def __init__(self, url: str, timings: Timings) -> None:
        self._connection = Connection(url)
        self._timings = timings
        self._id = ""

    async def register(self, label: str) -> None:
        """Introduce itself; not timed."""
        body = {"label": label, "device": "none"}
        _, worker = await self._connection.request("POST", "/v1/workers", body)
        self._id = worker["worker_id"]

    async def claim(self, wait_s: float = 0) -> Any:
        """A lease, or None when there was no work for so long."""
        claim = {"worker_id": self._id, "claim_id": str(uuid4()), "wait_s": wait_s}
        answer = await self._timed("claim", "POST", "/v1/leases", claim)
        return answer and answer["leases"][0]

    async def pass_probe(self) -> None:
        """Begin a trial, so that the others get theirs; not timed."""
        claim = {"worker_id": self._id, "claim_id": str(uuid4()), "wait_s": 0}
        _, answer = await self._connection.request("POST", "/v1/leases", claim)
        lease = f"/v1/leases/{answer['leases'][0]['lease_id']}"
        await self._connection.request(
            "PUT", f"{lease}/record", a_record().model_dump(mode="json", exclude_defaults=True)
        )
        await self._connection.request(
            "PUT", f"{lease}/outcome", {"kind": "completed", "value": 0.6}
        )

    async def report(self, lease: Any, step: int) -> None:
        """Report one epoch; the answer holds the verdict."""
        report = {"reports": [{"step": step, "value": 0.5 + step / 100}]}
        await self._timed("report", "POST", f"/v1/leases/{lease['lease_id']}/reports", report)

    async def heartbeat(self, lease: Any) -> None:
        """Renew the lease."""
        await self._timed("heartbeat", "POST", f"/v1/leases/{lease['lease_id']}:heartbeat", {})

    async def settle(self, lease: Any) -> None:
        """Complete the trial."""
        outcome = {"kind": "completed", "value": 0.6}
        await self._timed("settle", "PUT", f"/v1/leases/{lease['lease_id']}/outcome", outcome)
        self._timings.trials += 1

    def close(self) -> None:
        """Leave."""
        self._connection.close()

    async def _timed(self, verb: str, method: str, path: str, body: Any) -> Any:
        started = time.perf_counter()
        status, answer = await self._connection.request(method, path, body)
        self._timings.ms[verb].append(1e3 * (time.perf_counter() - started))
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer


async def _live(worker: Worker, until: float) -> None:
    """Live one trial after another until the time is over or there is no more work."""
    while time.monotonic() < until and (lease := await worker.claim()):
        for step in range(REPORTS):
            await worker.report(lease, step)
        await worker.settle(lease)


async def _all(url: str, clients: int, seconds: float) -> Timings:
    timings = Timings()
    workers = [Worker(url, timings) for _ in range(clients)]
    for number, worker in enumerate(workers):
        await worker.register(f"load-{number}")
    await workers[0].pass_probe()
    until = time.monotonic() + seconds
    await asyncio.gather(*(_live(worker, until) for worker in workers))
    for worker in workers:
        worker.close()
    return timings


def run(url: str, clients: int, seconds: float) -> Timings:
    """Let so many workers live trials for so long; trials begun are finished."""
    return asyncio.run(_all(url, clients, seconds))
