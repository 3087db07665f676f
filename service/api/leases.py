"""Routes of the lease protocol."""

import time
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from service.api.bodies import JsonRoute
from service.api.dependencies import (
    ServiceContext,
    ServiceFastPath,
    ServiceWaiters,
    require_staying,
)
from service.api.fast_path import FastRoute
from service.use_cases import leases, records
from service.use_cases.fast import FastPath
from service.waiting import wait
from trimtab.contract.leases import (
    Answer,
    CheckpointReport,
    LeaseRequest,
    Leases,
    Outcome,
    Release,
    Reports,
    Settled,
)
from trimtab.contract.records import TrialRecord

router = APIRouter(prefix="/v1/leases", route_class=JsonRoute, tags=["leases"])

LONGEST_NAP_S = 5.0
"""A trial in back-off becomes ready without a ring."""


@router.post("", responses={204: {"description": "Nothing to do"}})
async def claim(
    request: LeaseRequest, http: Request, fast_path: ServiceFastPath, waiters: ServiceWaiters
) -> Leases:
    """Get work; with `wait_s`, wait for it. A repeat of the same claim gets the same leases."""
    deadline = time.monotonic() + request.wait_s
    while True:
        bell = waiters.arm()
        got = await fast_path.claim(request)
        left = deadline - time.monotonic()
        if got.leases:
            return got
        await require_staying(http)
        if left > 0:
            await wait(bell, min(left, LONGEST_NAP_S))
        # A trial is not given to a worker that has hung up meanwhile.
        if left <= 0 or await http.is_disconnected():
            return Response(status_code=204)  # pyright: ignore[reportReturnType]


@router.post("/{lease}/reports")
async def report(lease: UUID, batch: Reports, fast_path: ServiceFastPath) -> Answer:
    """Store intermediate values, renew the lease, get the verdict of the last step."""
    return await fast_path.report(lease, batch)


def fast_routes(
    fast_path: FastPath,
) -> tuple[FastRoute[LeaseRequest], FastRoute[Reports], FastRoute[Outcome]]:
    """The routes that the fast path answers; each does what its namesake here does."""

    async def claim_now(_: UUID, request: LeaseRequest) -> Leases | None:
        got = await fast_path.claim(request)
        return got if got.leases else None  # the route waits, and answers 204

    return (
        FastRoute("POST", "", TypeAdapter(LeaseRequest), claim_now),
        FastRoute("POST", "/reports", TypeAdapter(Reports), fast_path.report),
        FastRoute("PUT", "/outcome", TypeAdapter[Outcome](Outcome), fast_path.settle),
    )


@router.post("/{lease}:heartbeat")
def heartbeat(lease: UUID, context: ServiceContext) -> Answer:
    """Renew the lease and get the verdict."""
    return leases.heartbeat(context, lease)


@router.post("/{lease}/checkpoints", status_code=204)
def checkpoint(lease: UUID, message: CheckpointReport, context: ServiceContext) -> None:
    """Record uploaded training states."""
    leases.checkpoint(context, lease, message)


@router.put("/{lease}/record", status_code=204)
def record(lease: UUID, message: TrialRecord, context: ServiceContext) -> None:
    """Keep what the worker found when it began; the last word of an attempt counts."""
    records.store(context, lease, message)


@router.post("/{lease}:release", status_code=204)
def release(lease: UUID, message: Release, context: ServiceContext) -> None:
    """Give the trial back unfinished."""
    leases.release(context, lease, message)


@router.put("/{lease}/outcome")
async def settle(lease: UUID, outcome: Outcome, fast_path: ServiceFastPath) -> Settled:
    """End the lease with its outcome; a repeat is answered as the first was."""
    return await fast_path.settle(lease, outcome)
