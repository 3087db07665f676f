"""What `sampler: auto` stands for until the service has chosen: a word in the place of the pruner, too."""

from collections.abc import Mapping
from typing import Any, Literal, cast

from trimtab.contract.message import Message


class AutoPruner(Message):
    """The one that `sampler: auto` chooses; the service writes that into the document when it creates the study."""

    kind: Literal["auto"]


def with_open_pruner(search: object) -> object:
    """Leave the pruner to `sampler: auto` too, where a document names none.

    Args:
        search: The `search` of a document, as it was given.
    """
    if not isinstance(search, Mapping):
        return search
    fields = cast("Mapping[str, Any]", search)
    if fields.get("sampler") != "auto" or "pruner" in fields:
        return fields
    return {**fields, "pruner": {"kind": "auto"}}
