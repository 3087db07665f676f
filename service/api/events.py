"""The live stream of a study's events (server-sent events, WHATWG HTML section 9.2)."""

import re
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from service.api.dependencies import ServiceContext, ServiceWaiters, StudyName
from service.domain.facts import Cursor
from service.use_cases import events, studies
from service.use_cases.context import Context
from service.waiting import Waiters, wait
from trimtab.contract.problems import FieldError, Invalid, StudyNotFound

router = APIRouter(prefix="/v1/studies", tags=["studies"])

LOOK_EVERY_S = 0.5
"""Reports do not ring the bell: watchers look by themselves."""

PING_AFTER_LOOKS = 30


@router.get(
    "/{study}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
def study_events(
    name: StudyName,
    request: Request,
    context: ServiceContext,
    waiters: ServiceWaiters,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> StreamingResponse:
    """What happened and happens, in commit order; ends once the study is over. Resume with Last-Event-ID."""
    cursor = _cursor(last_event_id)
    study_id = studies.study_id(context, name)
    stream = _stream(context, waiters, request, name, study_id, cursor)
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _stream(
    context: Context,
    waiters: Waiters,
    request: Request,
    name: str,
    study_id: int,
    told: Cursor,
) -> AsyncGenerator[str]:
    # The first look begins at the event that was told last: if that was the study's last one, there is nothing to wait for.
    look_from = (told[0], told[1] - 1)
    quiet = 0
    while not await request.is_disconnected():
        bell = waiters.arm()
        batch = await run_in_threadpool(events.after, context, study_id, look_from)
        for position, event in batch.events:
            if position > told:
                told = position
                yield f"id: {event.cursor}\ndata: {event.model_dump_json()}\n\n"
        if batch.is_last:
            return
        look_from = told
        if not batch.events:
            if not await run_in_threadpool(_exists, context, name, study_id):
                return
            quiet += 1
            if quiet % PING_AFTER_LOOKS == 0:
                yield ": ping\n\n"
            await wait(bell, LOOK_EVERY_S)


def _exists(context: Context, name: str, study_id: int) -> bool:
    """Whether the study is still there: with it, its events were deleted, and the last one will never come."""
    try:
        return studies.study_id(context, name) == study_id
    except StudyNotFound:
        return False


def _cursor(last_event_id: str | None) -> Cursor:
    if last_event_id is None:
        return (0, 0)
    if not re.fullmatch(r"\d{1,18}-\d{1,18}", last_event_id):
        fault = FieldError(
            pointer="/header/Last-Event-ID", code="cursor", message="no cursor of ours"
        )
        raise Invalid(errors=[fault])
    xid, event_id = last_event_id.split("-")
    return (int(xid), int(event_id))
