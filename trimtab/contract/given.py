"""A document as it was given: what can be read of it, and what it leaves to us."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from trimtab.contract import auto_space
from trimtab.contract.external import EXTERNAL
from trimtab.contract.models import with_model_dimension
from trimtab.contract.pruners import Pruner
from trimtab.contract.search_space import Dimension


def with_space(given: object) -> object:
    """Put a space in the place of `auto`, or of none at all, and in each space the dimension of the models it has."""
    if not isinstance(given, Mapping):
        return given
    fields = fields_of(cast("object", given))
    if fields.get("space", "auto") != "auto":
        return with_model_dimension(fields)
    if fields_of(fields.get("task")).get("kind") == EXTERNAL:
        # Its rules refuse that, and say what an external study has instead.
        return {name: one for name, one in fields.items() if name != "space"} | {
            "auto_space": True
        }
    setting = auto_space.Setting.of(fields)
    space = auto_space.space(setting)
    fixed: object = fields.get("fixed", {})
    if isinstance(fixed, Mapping):
        fixed = {**auto_space.beside(setting), **fields_of(cast("object", fixed))}
    return with_model_dimension({**fields, "space": space, "auto_space": True, "fixed": fixed})


def with_objectives(given: object) -> object:
    """Leave the search of two objectives to what can search for both, where a document names nothing else."""
    fields = fields_of(given)
    search = fields.get("search", {})
    if not fields.get("objectives") or not isinstance(search, Mapping):
        return given
    usual = {"sampler": "gp", "pruner": {"kind": "none"}}
    return {**fields, "search": {**usual, **fields_of(cast("object", search))}}


def fields_of(given: object) -> Mapping[str, Any]:
    """Return the fields of an object; none if it is something else."""
    if not isinstance(given, Mapping):
        return {}
    fields = cast("Mapping[object, Any]", given)
    return {name: value for name, value in fields.items() if isinstance(name, str)}


def pruner_of(given: object) -> Pruner | None:
    """Return the pruner of a document; None where it is wrong by itself."""
    try:
        return TypeAdapter[Pruner](Pruner).validate_python(given)
    except ValidationError:
        return None


def dimension_of(given: object) -> Dimension | None:
    """Return a dimension of a document; None where it is wrong by itself."""
    try:
        return TypeAdapter[Dimension](Dimension).validate_python(given)
    except ValidationError:
        return None
