"""The fast path's own door: usual requests are answered before FastAPI sees them, all others passed on."""

import asyncio
import json
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from starlette.responses import Response

from service.api.fast_path import LARGEST_FAST_BYTES, FastRoutes
from service.api.leases import fast_routes
from service.api.long_poll import LongPoll
from service.housekeeping import Readiness
from service.use_cases.fast import FastPath
from service.waiting import Waiters
from trimtab.contract.leases import Lease, LeaseRequest, Leases
from trimtab.contract.problems import Unavailable

LEASES = Leases(leases=(Lease.model_construct(lease_id=UUID(int=1)),))
NOTHING = Leases(leases=())


class Door:
    """The fast routes before a FastAPI that answers 418, over a fast path that answers claims as it is told."""

    def __init__(self, *answers: Leases, is_ready: bool = True, hangs_up: bool = False) -> None:
        self.answers, self.looks = list(answers), 0
        self.is_ready, self.hangs_up = is_ready, hangs_up
        self.waiters, self.readiness = Waiters(), Readiness()
        long_poll = LongPoll(cast(FastPath, self), self.waiters, self.readiness)
        self._routes = FastRoutes(
            Response(status_code=418), fast_routes(long_poll), self._check
        )

    def _check(self) -> None:
        if not self.is_ready:
            raise Unavailable

    async def claim(self, _: LeaseRequest) -> Leases:
        """Look for work; the bell rings while it looks, unless this was the last look."""
        self.looks += 1
        if len(self.answers) > 1:
            self.waiters.bind(asyncio.get_running_loop())
            self.waiters.ring()
        return self.answers.pop(0)

    async def report(self, *_: Any) -> None:
        """Never asked here."""

    async def settle(self, *_: Any) -> None:
        """Never asked here."""

    def asked(self, body: Any = None, *, wait_s: float = 0.0) -> int:
        """Claim over HTTP; returns the status."""
        claim = {"worker_id": str(uuid4()), "claim_id": str(uuid4()), "wait_s": wait_s}
        content = json.dumps(claim if body is None else body).encode()
        return asyncio.run(self._asked(content))

    async def _asked(self, content: bytes) -> int:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
        ]
        scope = {"type": "http", "method": "POST", "path": "/v1/leases", "headers": headers}
        coming: list[Any] = [{"type": "http.request", "body": content}]
        sent: list[Any] = []

        async def receive() -> Any:
            if coming:
                return coming.pop(0)
            if not self.hangs_up:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._routes(scope, receive, send)
        return sent[0]["status"]


def test_a_claim_that_finds_nothing_looks_once() -> None:
    door = Door(NOTHING)
    assert (door.asked(), door.looks) == (204, 1)


def test_a_claim_that_waits_looks_again_at_each_ring() -> None:
    door = Door(NOTHING, NOTHING, LEASES)
    assert (door.asked(wait_s=60), door.looks) == (200, 3)


def test_a_claim_that_hears_no_ring_does_not_look_again() -> None:
    door = Door(NOTHING)
    assert (door.asked(wait_s=0.01), door.looks) == (204, 1)


def test_a_worker_that_has_hung_up_is_given_nothing() -> None:
    door = Door(NOTHING, LEASES, hangs_up=True)
    assert (door.asked(wait_s=60), door.looks) == (204, 1)


def test_a_claim_that_finds_nothing_is_told_when_the_replica_leaves() -> None:
    door = Door(NOTHING)
    door.readiness.leave()
    assert (door.asked(wait_s=60), door.looks) == (503, 1)


def test_nothing_is_served_before_the_database_is_ready() -> None:
    door = Door(LEASES, is_ready=False)
    assert (door.asked(), door.looks) == (503, 0)


@pytest.mark.parametrize("body", [{}, {"worker_id": "x" * LARGEST_FAST_BYTES}])
def test_what_is_malformed_or_large_is_left_to_fastapi(body: Any) -> None:
    door = Door(LEASES)
    assert (door.asked(body), door.looks) == (418, 0)
