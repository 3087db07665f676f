"""What the routes are given."""

import base64
import binascii
import re
from typing import Annotated, cast

from fastapi import Depends, Path, Query, Request

from service.housekeeping import Readiness
from service.use_cases.context import Context
from service.use_cases.fast import FastPath
from service.waiting import Waiters
from trimtab.contract.problems import FieldError, Invalid, StudyNotFound, Unavailable

# Dependencies are coroutines: FastAPI sends plain functions to a thread, which costs more than they do.
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


async def _context(request: Request) -> Context:
    require_ready(cast(Readiness, request.app.state.readiness))
    return cast(Context, request.app.state.context)


def require_ready(readiness: Readiness) -> None:
    """Refuse while the database has not been brought to our schema.

    Raises:
        Unavailable: not yet, or never, and why.
    """
    if not readiness.ready.is_set():
        raise Unavailable(
            readiness.fatal or "The service waits for its database.", retry_after_s=1.0
        )


async def require_staying(request: Request) -> None:
    """Do as `refuse_if_leaving`, for a route."""
    refuse_if_leaving(cast(Readiness, request.app.state.readiness))


def refuse_if_leaving(readiness: Readiness) -> None:
    """Refuse while the service is about to leave.

    Raises:
        Unavailable: it is; another replica may not be.
    """
    if readiness.leaving.is_set():
        raise Unavailable("This replica is about to leave: ask again.", retry_after_s=1.0)


async def _waiters(request: Request) -> Waiters:
    return cast(Waiters, request.app.state.waiters)


async def _fast_path(request: Request) -> FastPath:
    require_ready(cast(Readiness, request.app.state.readiness))
    return cast(FastPath, request.app.state.fast_path)


async def _study_name(study: Annotated[str, Path()]) -> str:
    # A name that no study can have is not asked of the database, which could not even hold some of them.
    if not _NAME.fullmatch(study):
        raise StudyNotFound
    return study


def token_of(position: int) -> str:
    """An opaque page token."""
    return base64.urlsafe_b64encode(f"p{position}".encode()).decode()


async def _position(
    page_token: Annotated[str | None, Query(max_length=64)] = None,
) -> int | None:
    if page_token is None:
        return None
    try:
        text = base64.urlsafe_b64decode(page_token).decode("ascii")
        if re.fullmatch(r"p\d{1,9}", text):
            return int(text[1:])
    except (binascii.Error, ValueError):
        pass
    fault = FieldError(
        pointer="/query/page_token", code="page_token", message="no token of ours"
    )
    raise Invalid(errors=[fault])


ServiceContext = Annotated[Context, Depends(_context)]
ServiceFastPath = Annotated[FastPath, Depends(_fast_path)]
ServiceWaiters = Annotated[Waiters, Depends(_waiters)]
StudyName = Annotated[str, Depends(_study_name)]
Position = Annotated[int | None, Depends(_position)]
PageSize = Annotated[int, Query(ge=1, le=1000)]
TrialNumber = Annotated[int, Path(ge=0, lt=2**31)]
