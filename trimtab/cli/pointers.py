"""Faults of a document as JSON pointers (RFC 6901), with the nearest name for every unknown one."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trimtab.contract.problems import FieldError

Part = str | int


def faults(
    model: type[BaseModel], document: object, error: ValidationError
) -> tuple[FieldError, ...]:
    """Each faulty place of `document` once, in the order of the model's fields."""
    by_pointer: dict[str, FieldError] = {}
    for detail in error.errors(include_url=False, include_input=False):
        path = _path(document, detail)
        pointer = "".join(f"/{_escape(part)}" for part in path)
        message = _message(model, document, path, detail)
        if earlier := by_pointer.get(pointer):
            # The members of a union refuse one value each in its own words.
            message = f"{earlier.message}, or {message.removeprefix('Input should be ')}"
        by_pointer[pointer] = FieldError(pointer=pointer, code=detail["type"], message=message)
    return tuple(by_pointer.values())


def _path(document: object, detail: ErrorDetails) -> tuple[Part, ...]:
    """The place in the document: pydantic's location without the names of union members."""
    path: list[Part] = []
    node = document
    for part in detail["loc"]:
        if isinstance(node, Mapping) and part in node:
            node = cast("Mapping[object, object]", node)[part]
        elif isinstance(node, list) and isinstance(part, int):
            node = cast("list[object]", node)[part]
        elif detail["type"] != "missing" or part != detail["loc"][-1]:
            continue
        path.append(part)
    return tuple(path)


def _message(
    model: type[BaseModel], document: object, path: Sequence[Part], detail: ErrorDetails
) -> str:
    if detail["type"] != "extra_forbidden":
        return detail["msg"].removeprefix("Value error, ")
    known = sorted(_known_fields(model.model_json_schema(), document, path[:-1]))
    near = difflib.get_close_matches(str(path[-1]), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"there is no such field; {hint}"


def _known_fields(schema: dict[str, Any], document: object, path: Sequence[Part]) -> set[str]:
    """The names that the JSON schema knows at `path`; of a union, those of the member that `kind` names."""
    nodes = [schema]
    node = document
    for part in path:
        nodes = [child for each in nodes for child in _children(schema, each, part)]
        node = cast("Any", node)[part]
    members = [member for each in nodes for member in _members(schema, each)]
    kind = cast("Any", node).get("kind") if isinstance(node, Mapping) else None
    chosen = [
        m for m in members if m.get("properties", {}).get("kind", {}).get("const") == kind
    ]
    return {name for member in chosen or members for name in member.get("properties", {})}


def _members(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The node itself, or what it refers to, or each member of the union that it is."""
    if "$ref" in node:
        yield from _members(schema, schema["$defs"][node["$ref"].rsplit("/", 1)[-1]])
        return
    union = node.get("oneOf") or node.get("anyOf")
    for member in union or ():
        yield from _members(schema, member)
    if not union:
        yield node


def _children(
    schema: dict[str, Any], node: dict[str, Any], part: Part
) -> Iterator[dict[str, Any]]:
    for member in _members(schema, node):
        child = member.get("properties", {}).get(part, member.get("additionalProperties"))
        if isinstance(child, dict):
            yield cast("dict[str, Any]", child)


def _escape(part: Part) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
