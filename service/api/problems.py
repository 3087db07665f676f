"""Every error of the service as `application/problem+json` (RFC 9457), 404 and 405 included."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from trimtab.contract.problems import (
    TABLE,
    FieldError,
    Invalid,
    NonFinite,
    Problem,
    ProblemDocument,
    UnknownField,
    WrongType,
    from_document,
)

MEDIA_TYPE = "application/problem+json"
DECLARED: dict[int | str, dict[str, Any]] = {
    status: {
        "model": ProblemDocument,
        "content": {MEDIA_TYPE: {}},
        "description": HTTPStatus(status).phrase,
    }
    for status in sorted({row.status for row in TABLE.values()})
}
"""What every operation of the OpenAPI document may answer."""


def respond(problem: Problem) -> Response:
    """Shape a problem as a response; each gets an instance id, which the log shares."""
    document = problem.document(instance=f"urn:uuid:{uuid4()}")
    headers: dict[str, str] = {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    if document.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer, Basic realm="trimtab"'
    body = document.model_dump_json(exclude_none=True)
    return Response(body, document.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Register the handlers of everything that can be raised."""
    app.add_exception_handler(Problem, _of_problem)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _of_bug)


async def _of_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - the registration says so
    return respond(error)


async def _of_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the registration says so
    phrase = HTTPStatus(error.status_code).phrase
    problem = from_document(
        {"type": "about:blank", "title": phrase, "status": error.status_code, "detail": ""}
    )
    response = respond(type(problem)())
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _of_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the registration says so
    return respond(invalid(error.errors()))


async def _of_bug(request: Request, error: Exception) -> Response:
    structlog.get_logger(__name__).error(
        "unhandled", method=request.method, path=request.url.path, exc_info=error
    )
    return respond(Problem("The service met an error of its own; its log has the details."))


def invalid(errors: Sequence[Any]) -> Problem:
    """The problem that a list of pydantic's errors amounts to; the refused values are never repeated."""
    fields = tuple(
        FieldError(pointer=_pointer(error["loc"]), code=error["type"], message=error["msg"])
        for error in errors
    )
    kinds = {_kind(field.code) for field in fields}
    problem = kinds.pop() if len(kinds) == 1 else Invalid
    return problem(errors=fields)


def _kind(code: str) -> type[Problem]:
    if code == "extra_forbidden":
        return UnknownField
    if code == "finite_number":
        return NonFinite
    return WrongType if code.endswith(("_type", "_parsing", "_from_float")) else Invalid


def _pointer(location: Sequence[int | str]) -> str:
    """An RFC 6901 pointer into the body; of a parameter, its place and name."""
    parts = location[1:] if location and location[0] == "body" else location
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
