"""Every error of the service as `application/problem+json` (RFC 9457), 404 and 405 included."""

from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, cast
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from trimtab.contract import faults
from trimtab.contract.problems import (
    TABLE,
    BadRequest,
    FieldError,
    Invalid,
    Problem,
    ProblemDocument,
    from_document,
)

MEDIA_TYPE = "application/problem+json"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
DECLARED: dict[int | str, dict[str, Any]] = {
    status: {
        "model": ProblemDocument,
        "content": {MEDIA_TYPE: {}},
        "description": HTTPStatus(status).phrase,
    }
    for status in sorted({row.status for row in TABLE.values()})
}
"""What every operation of the OpenAPI document may answer."""


def respond(problem: Problem, more_headers: Mapping[str, str] | None = None) -> Response:
    """Shape a problem as a response; each gets an instance id, which the log shares."""
    document = problem.document(instance=f"urn:uuid:{uuid4()}")
    headers = dict(more_headers or {})
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    if document.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="trimtab"'
    body = document.model_dump_json(exclude_none=True)
    return Response(body, document.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Register the handlers of everything that can be raised, and declare the answers under their media type."""
    app.openapi = partial(_openapi, app)
    app.add_exception_handler(Problem, _of_problem)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(ClientDisconnect, _of_departure)
    app.add_exception_handler(Exception, _of_bug)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, which holds every declared model to be `application/json`, put right."""
    document = FastAPI.openapi(app)
    for item in document["paths"].values():
        for operation in item.values():
            for status in DECLARED:
                content = operation["responses"][str(status)]["content"]
                if "application/json" in content:
                    content[MEDIA_TYPE] = content.pop("application/json")
    return document


async def _of_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - the registration says so
    return respond(error)


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the registration says so
    phrase = HTTPStatus(error.status_code).phrase
    problem = from_document(
        {"type": "about:blank", "title": phrase, "status": error.status_code, "detail": ""}
    )
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return respond(type(problem)(), {"Allow": ", ".join(_allowed(request))})
    return respond(type(problem)())


def _allowed(request: Request) -> list[str]:
    """All methods that the address answers to; each of them is a route of its own, and the router knows only one."""
    asked: dict[str, Any] = {
        "type": "http",
        "path": request.url.path,
        "root_path": "",
        "headers": [],
    }
    return [
        method
        for method in METHODS
        if any(
            route.matches({**asked, "method": method})[0] is Match.FULL
            for route in request.app.router.routes
        )
    ]


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the registration says so
    route = request.scope.get("route")
    body = getattr(route, "body_field", None)
    annotation = object if body is None else body.field_info.annotation
    return respond(invalid(annotation, error.body, error.errors()))


async def _of_departure(_request: Request, _error: Exception) -> Response:
    # Nobody reads this; but a client that leaves is no bug of ours.
    return respond(BadRequest("The client went away before its request was whole."))


async def _of_bug(request: Request, error: Exception) -> Response:
    structlog.get_logger(__name__).error(
        "unhandled", method=request.method, path=request.url.path, exc_info=error
    )
    return respond(Problem("The service met an error of its own; its log has the details."))


def invalid(annotation: Any, body: object, errors: Sequence[Any]) -> Problem:
    """The problem that pydantic's errors amount to: pointers lead into the body, or name a parameter and its place."""
    if all(error["loc"][0] == "body" for error in errors):
        inside = [{**error, "loc": error["loc"][1:]} for error in errors]
        return faults.refusal(annotation, body, cast("list[ErrorDetails]", inside))
    return Invalid(
        errors=[
            FieldError(
                pointer=faults.pointer_to(error["loc"]),
                code=error["type"],
                message=error["msg"],
            )
            for error in errors
            if error["loc"][0] != "body"
        ]
    )
