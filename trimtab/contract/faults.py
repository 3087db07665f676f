"""Faults of a document: the place as a JSON pointer (RFC 6901), the rule, and the nearest name for an unknown one.

Pydantic's errors have the members of unions in their locations, and some repeat the refused value. A `FieldError` has
neither. The service and the command line describe a document in the same words.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

from trimtab.contract.problems import FieldError, Invalid, NonFinite, UnknownField, WrongType
from trimtab.contract.recipe import Recipe

Part = str | int

_ERROR_TYPES: frozenset[str] = frozenset(get_args(ErrorType))
MOST_FAULTS = 100
"""The number of faults that are reported: a hostile document could have a hundred thousand."""

LONGEST_PART = 200
"""The number of characters of one key that a pointer repeats."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that a rule over several fields has found, at a place below the rule's model."""

    location: tuple[Part, ...]
    code: str
    message: str


def refuse(
    title: str, found: Iterable[Fault], *, beside: ValidationError | None = None
) -> None:
    """Raise the faults that a model's rule found, each at its own place; without faults, return.

    Args:
        title: The model's name.
        found: The faults.
        beside: The error of the model's fields, whose faults are told as well where nothing new is found at their place.

    Raises:
        ValidationError: there are faults. Pydantic merges them into the error of the model that the rule belongs to.
    """
    details = [
        InitErrorDetails(
            # pydantic-core types both as literal strings; the cast lets codes and messages be computed.
            type=PydanticCustomError(cast("Any", fault.code), cast("Any", fault.message)),
            loc=fault.location,
            input=None,
        )
        for fault in found
    ]
    if details and beside is not None:
        own = [_again(error) for error in beside.errors(include_url=False)]
        places = {tuple(error["loc"]) for error in beside.errors(include_url=False)}
        details = own + [detail for detail in details if detail.get("loc") not in places]
    if details:
        raise ValidationError.from_exception_data(title, details)


def _again(error: ErrorDetails) -> InitErrorDetails:
    """What an error is made of, to raise it once more."""
    kind: Any = error["type"]
    if kind not in _ERROR_TYPES:
        kind = PydanticCustomError(kind, cast("Any", error["msg"]))
    return InitErrorDetails(
        type=kind, loc=error["loc"], input=error["input"], ctx=error.get("ctx", {})
    )


def refusal(annotation: Any, document: object, errors: Sequence[ErrorDetails]) -> Invalid:
    """Return the problem for pydantic's errors: a more exact class if all faults are of one kind, else `Invalid`."""
    fields = faults(annotation, document, errors)
    kinds = {_kind(field.code) for field in fields}
    problem = kinds.pop() if len(kinds) == 1 else Invalid
    return problem(errors=fields)


def faults(
    annotation: Any, document: object, errors: Sequence[ErrorDetails]
) -> tuple[FieldError, ...]:
    """Return each faulty place of `document` once, in the order of the fields, without the refused values.

    Args:
        annotation: the model, or another type that the document was validated as.
        document: the document that was validated, as plain values of JSON.
        errors: the errors of the `ValidationError`.
    """
    by_pointer: dict[str, FieldError] = {}
    schema: dict[str, Any] = {}
    for detail in _own(errors[:MOST_FAULTS]):
        if detail["type"] == "extra_forbidden" and not schema:
            schema = TypeAdapter(annotation).json_schema()
        path = _path(document, detail)
        pointer = pointer_to(path)
        message = _message(schema, document, path, detail)
        if earlier := by_pointer.get(pointer):
            # Each member of a union refuses the value with a message of its own.
            message = f"{earlier.message}, or {message.removeprefix('Input should be ')}"
        by_pointer[pointer] = FieldError(pointer=pointer, code=detail["type"], message=message)
    return tuple(by_pointer.values())


def _own(errors: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out errors that only follow from others: pydantic also calls a list too short whose items it refused."""
    for detail in errors:
        depth = len(detail["loc"])
        within = (other for other in errors if len(other["loc"]) > depth)
        if detail["type"] == "too_short" and any(
            other["loc"][:depth] == detail["loc"] for other in within
        ):
            continue
        yield detail


def pointer_to(path: Sequence[Part]) -> str:
    """Return the RFC 6901 pointer to a place. Characters that UTF-8 cannot hold are escaped, and long keys are cut."""
    return "".join("/" + _escape(part) for part in path)


def _escape(part: Part) -> str:
    text = str(part)[:LONGEST_PART].encode("utf-8", "backslashreplace").decode()
    return text.replace("~", "~0").replace("/", "~1")


def _kind(code: str) -> type[Invalid]:
    if code == "extra_forbidden":
        return UnknownField
    if code == "finite_number":
        return NonFinite
    return WrongType if code.endswith(("_type", "_parsing", "_from_float")) else Invalid


def _path(document: object, detail: ErrorDetails) -> tuple[Part, ...]:
    """Return the place in the document: pydantic's location without the names of union members."""
    path: list[Part] = []
    node = document
    told_apart: object = None
    last = len(detail["loc"]) - 1
    for index, part in enumerate(detail["loc"]):
        if isinstance(node, Mapping):
            fields = cast("Mapping[object, object]", node)
            if node is not told_apart and fields.get("kind") == part:
                told_apart = fields  # the tag of a union, even where a field has the same name
                continue
            if part in fields:
                node = fields[part]
                path.append(part)
            elif index == last and detail["type"] == "missing":
                path.append(part)
        elif isinstance(node, list) and isinstance(part, int):
            node = cast("list[object]", node)[part]
            path.append(part)
    return (*path, *_discriminator(cast("object", node), detail))


def _discriminator(node: object, detail: ErrorDetails) -> tuple[Part, ...]:
    """Return the field of the tag, if the tag of a union is missing or unknown; a bare word is a place of its own."""
    if detail["type"] not in ("union_tag_invalid", "union_tag_not_found"):
        return ()
    if not isinstance(node, Mapping):
        return ()
    return (str(detail.get("ctx", {}).get("discriminator", "")).strip("'"),)


def _message(
    schema: dict[str, Any], document: object, path: Sequence[Part], detail: ErrorDetails
) -> str:
    if detail["type"] == "union_tag_invalid":  # pydantic's own words repeat the value
        return _unknown_tag(detail.get("ctx", {}))
    if detail["type"] == "union_tag_not_found":
        return "Field required"
    if detail["type"] != "extra_forbidden":
        return detail["msg"].removeprefix("Value error, ")
    if schema.get("title") == "StudyDocument" and path[-1] in Recipe.model_fields:
        return (
            "there is no such field; it is a hyperparameter: name it below `fixed` or `space`"
        )
    known = _known_fields(schema, document, path[:-1])
    return f"there is no such field; {hint(str(path[-1]), known)}"


def _unknown_tag(context: Mapping[str, Any]) -> str:
    """What the tag may be, and which of these is the nearest to what it is."""
    expected = str(context.get("expected_tags"))
    near = _nearest(str(context.get("tag")), re.findall("'([^']*)'", expected))
    return f"Input should be {expected}" + (f"; did you mean {near!r}?" if near else "")


def hint(name: str, known: Iterable[str]) -> str:
    """Return a question with the nearest of the known names, or the list of all of them."""
    names = sorted(known)
    near = _nearest(name, names)
    return f"did you mean {near!r}?" if near else f"known here: {', '.join(names)}"


def _nearest(name: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name[:LONGEST_PART], known, n=1)), None)


def _known_fields(schema: dict[str, Any], document: object, path: Sequence[Part]) -> set[str]:
    """Return the field names that the JSON schema has at `path`; in a union, those of the member that `kind` names."""
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
    """Yield the members of a union, or else the node itself; references are followed."""
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
        child = member.get("properties", {}).get(
            part, member.get("additionalProperties", member.get("items"))
        )
        if isinstance(child, dict):
            yield cast("dict[str, Any]", child)
