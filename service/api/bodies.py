"""JSON bodies, read strictly: what two parsers could read differently is refused."""

import json
import math
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from trimtab.contract.problems import (
    DuplicateKey,
    MalformedJson,
    NonFinite,
    UnsupportedMediaType,
)

DEEPEST = 32
LONGEST_NUMBER = 100
# A string without its end is one token too, and nothing is given back: a body of quotes must cost no quadratic time.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


class JsonRoute(APIRoute):
    """A route whose JSON body has passed `parse` before FastAPI validates it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Read the body first, so that every fault of it has its own problem."""
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def checked(request: Request) -> Response:
            content_type = (
                request.headers.get("content-type", "").partition(";")[0].strip().lower()
            )
            if content_type != "application/json":
                raise UnsupportedMediaType
            # Starlette keeps a parsed body here; FastAPI then takes ours.
            request._json = parse(await request.body())  # pyright: ignore[reportPrivateUsage]
            return await handler(request)

        return checked


def parse(body: bytes) -> Any:
    """Read one JSON document.

    Raises:
        MalformedJson: it is not one, is not UTF-8, nests deeper than 32, or has a number of over 100 digits.
        DuplicateKey: an object names a key twice.
        NonFinite: it has NaN, an infinity, or a number beyond a float's range.
    """
    _check_depth(body)
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MalformedJson("The body is not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise MalformedJson(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error


def _check_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return
    depth = 0
    for token in _TOKENS.finditer(body):
        first = token[0][:1]
        depth += (first in b"[{") - (first in b"]}")
        if depth > DEEPEST:
            raise MalformedJson(f"The body nests deeper than {DEEPEST} levels.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise DuplicateKey
    return parsed


def _constant(name: str) -> float:
    raise NonFinite(f"{name} is no value here.")


def _float(text: str) -> float:
    _check_length(text)
    value = float(text)
    if math.isinf(value):
        raise NonFinite("A number is beyond the range of a float.")
    return value


def _int(text: str) -> int:
    _check_length(text)
    return int(text)


def _check_length(text: str) -> None:
    if len(text) > LONGEST_NUMBER:
        raise MalformedJson(f"A number has more than {LONGEST_NUMBER} digits.")


# `json.loads` would build one for each body, which takes as long as reading a report.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
)
