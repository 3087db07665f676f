"""Routes of the lease protocol."""

from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import TypeAdapter

from service.api.bodies import JsonRoute
from service.api.dependencies import (
    ServiceContext,
    ServiceFastPath,
    require_ready,
)
from service.api.fast_path import FastRoute
from service.api.long_poll import LongPoll
from service.use_cases import leases, records
from trimtab.contract.external_leases import ExternalLeases
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
from trimtab.contract.validation_outputs import TrialOutputsPage

router = APIRouter(prefix="/v1/leases", route_class=JsonRoute, tags=["leases"])


async def _long_poll(request: Request) -> LongPoll:
    long_poll = cast(LongPoll, request.app.state.long_poll)
    require_ready(long_poll.readiness)
    return long_poll


@router.post("", responses={204: {"description": "Nothing to do"}})
async def claim(
    request: LeaseRequest,
    http: Request,
    long_poll: Annotated[LongPoll, Depends(_long_poll)],
) -> Leases | ExternalLeases:
    """Get work; with `wait_s`, wait for it. A repeat of the same claim gets the same leases.

    A loop of a person's own, registered for an external study, is told hyperparameters and nothing else.
    """
    got = await long_poll.claim(request, http)
    return got or Response(status_code=204)  # pyright: ignore[reportReturnType]


@router.post("/{lease}/reports")
async def report(lease: UUID, batch: Reports, fast_path: ServiceFastPath) -> Answer:
    """Store intermediate values, renew the lease, get the verdict of the last step."""
    return await fast_path.report(lease, batch)


def fast_routes(
    long_poll: LongPoll,
) -> tuple[FastRoute[LeaseRequest], FastRoute[Reports], FastRoute[Outcome]]:
    """The routes that the fast path answers; each does what its namesake here does."""
    fast_path = long_poll.fast_path
    return (
        FastRoute(
            "POST",
            "",
            TypeAdapter(LeaseRequest),
            lambda _, request, http: long_poll.claim(request, http),
        ),
        FastRoute(
            "POST",
            "/reports",
            TypeAdapter(Reports),
            lambda lease, batch, _: fast_path.report(lease, batch),
        ),
        FastRoute(
            "PUT",
            "/outcome",
            TypeAdapter[Outcome](Outcome),
            lambda lease, outcome, _: fast_path.settle(lease, outcome),
        ),
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


@router.get("/{lease}/validation-outputs")
def validation_outputs(
    lease: UUID,
    context: ServiceContext,
    start: Annotated[int, Query(alias="from", ge=0, lt=2**31)] = 0,
) -> TrialOutputsPage:
    """Read what completed trials answered to the validation split, a page at a time; for the holder of a final lease."""
    return leases.outputs_page(context, lease, start)


@router.post("/{lease}:release", status_code=204)
def release(lease: UUID, message: Release, context: ServiceContext) -> None:
    """Give the trial back unfinished."""
    leases.release(context, lease, message)


@router.put("/{lease}/outcome")
async def settle(lease: UUID, outcome: Outcome, fast_path: ServiceFastPath) -> Settled:
    """End the lease with its outcome; a repeat is answered as the first was."""
    return await fast_path.settle(lease, outcome)
