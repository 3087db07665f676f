"""Study documents: YAML or JSON files, read with limits and checked before they are sent."""

import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

import yaml
from pydantic import ValidationError

from trimtab.contract import faults, problems
from trimtab.contract.edits import StudyEdit
from trimtab.contract.message import Message
from trimtab.contract.studies import StudyDocument

M = TypeVar("M", bound=Message)

LARGEST_BYTES = 1 << 20
MOST_NODES = 100_000
"""The largest number of values in a document after its aliases are expanded."""


def read(path: Path) -> StudyDocument:
    """Read a study document; `-` is the standard input.

    Raises:
        problems.Invalid: the file cannot be read or is not a valid document; the errors name each faulty place.
    """
    source = "standard input" if str(path) == "-" else str(path)
    document = parse(_read_text(path, source), source)
    if not isinstance(document, dict):
        raise problems.Invalid(
            f"{source} is not a study document: it must have fields, such as `name: my-study`."
        )
    fields = cast("dict[str, object]", document)
    return _checked(StudyDocument, fields, f"{source} is not a valid study document:")


def read_space(path: Path) -> StudyEdit:
    """Read a changed space: a study's document, or its `space` and `fixed` alone; `-` is the standard input.

    Raises:
        problems.Invalid: the file cannot be read, or has no valid space; the errors name each faulty place.
    """
    source = "standard input" if str(path) == "-" else str(path)
    document = parse(_read_text(path, source), source)
    if not isinstance(document, dict) or "space" not in document:
        raise problems.Invalid(
            f"{source} has no `space`: give the study's document with its space changed, or that part of it."
        )
    fields = cast("dict[str, object]", document)
    given = {name: fields[name] for name in ("space", "fixed") if name in fields}
    return _checked(StudyEdit, given, f"{source} has no valid space:")


def _checked(message: type[M], given: Mapping[str, object], trouble: str) -> M:
    """Return what was given as a message; the problem says `trouble`, and names each faulty place."""
    try:
        return message.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise problems.Invalid(trouble, errors=faults.faults(message, given, found)) from None


def parse(text: str, source: str) -> object:
    """Return the YAML document in `text` as plain values; `source` names it in messages.

    Raises:
        problems.Invalid: it is not one YAML document of plain values.
    """
    try:
        return _construct(text, source)
    except yaml.MarkedYAMLError as error:
        raise problems.Invalid(f"{source} cannot be read as YAML: {_explain(error)}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise problems.Invalid(f"{source} cannot be read as YAML: {reason}") from None
    except RecursionError:
        raise problems.Invalid(f"{source} is nested too deeply to be read.") from None
    except (ValueError, OverflowError) as error:
        raise problems.Invalid(f"{source} has a value that cannot be read: {error}") from None


def _construct(text: str, source: str) -> object:
    loader = _loader()(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise problems.Invalid(f"{source} is empty.")
        _check_nodes(node, source)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _read_text(path: Path, source: str) -> str:
    data = sys.stdin.buffer.read(LARGEST_BYTES + 1) if str(path) == "-" else _read_file(path)
    if len(data) > LARGEST_BYTES:
        raise problems.Invalid(
            f"{source} is larger than 1 MiB, the limit for a study document."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise problems.Invalid(f"{source} is not text in UTF-8 (byte {error.start}).") from None


def _read_file(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise problems.Invalid(f"{path} is not a regular file.")
        with path.open("rb") as file:
            return file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise problems.Invalid(f"{str(path)!r} cannot be read: {reason}.") from None


def _loader() -> type[yaml.SafeLoader]:
    class Loader(yaml.SafeLoader):
        """SafeLoader, except that 1e-5 is a number, as in YAML 1.2."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )
    return Loader


def _check_keys(node: yaml.Node) -> None:
    seen: set[str] = set()
    for key, _ in _pairs(node):
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            raise yaml.MarkedYAMLError(
                problem=f"the key {key.value!r} appears twice", problem_mark=key.start_mark
            )
        seen.add(key.value)


def _check_nodes(root: yaml.Node, source: str) -> None:
    """Refuse a key that appears twice, aliases without end, and aliases that expand to too many values."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in open_nodes:
            raise problems.Invalid(
                f"{source} has an alias inside its own anchor, which would never end."
            )
        open_nodes.add(id(node))
        _check_keys(node)
        total = 1 + sum(size(child) for child in _children(node))
        open_nodes.discard(id(node))
        sizes[id(node)] = total
        return total

    if size(root) > MOST_NODES:
        raise problems.Invalid(
            f"{source} has more than {MOST_NODES:,} values after its aliases are expanded."
        )


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return cast("list[yaml.Node]", node.value)
    return [child for pair in _pairs(node) for child in pair]


def _pairs(node: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        return []
    return cast("list[tuple[yaml.Node, yaml.Node]]", node.value)


def _explain(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + " ".join(part for part in (error.context, error.problem) if part)
