"""What decides that a running trial is not worth another epoch, or not yet: a union told apart by `kind`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from trimtab.contract.auto_search import AutoPruner
from trimtab.contract.faults import Fault, refuse
from trimtab.contract.message import Int, Message
from trimtab.contract.schedulers import AshaScheduler, FreezeThawScheduler, HyperbandScheduler


class MedianPruner(Message):
    """Stops a trial whose best value so far is worse than the median of the completed trials at the same epoch.

    Where `epochs` is searched, each is held against the others at the same share of its own epochs.
    """

    kind: Literal["median"]
    startup_trials: Annotated[Int, Field(ge=1, le=1000)] = Field(
        default=5, description="It stops nobody until this many trials have completed."
    )
    warmup_epochs: Annotated[Int, Field(ge=0, le=100_000)] | None = Field(
        default=None,
        description="It stops nobody at an epoch before this one, counted from 0; null: half of the trial's own epochs.",
    )
    min_trials: Annotated[Int, Field(ge=1, le=1000)] = Field(
        default=1,
        description="It stops nobody where fewer completed trials than this have a value to be compared with.",
    )


class NoPruner(Message):
    """Stops no trial."""

    kind: Literal["none"]


PrunerName = Literal["median", "none", "asha", "hyperband", "freeze_thaw", "auto"]
"""The kinds whose parameters all have defaults: the bare word stands for the kind with these."""

AnyPruner = Annotated[
    MedianPruner
    | NoPruner
    | AshaScheduler
    | HyperbandScheduler
    | FreezeThawScheduler
    | AutoPruner,
    Field(discriminator="kind"),
]


def _long_form(given: object) -> object:
    if isinstance(given, str):
        return {"kind": given}
    if isinstance(given, Mapping | Message):
        return cast("object", given)
    names = ", ".join(repr(name) for name in get_args(PrunerName))
    raise PydanticCustomError(
        "pruner_type", "Input should be {names} or an object with a `kind`", {"names": names}
    )


Pruner = Annotated[
    AnyPruner, BeforeValidator(_long_form, json_schema_input_type=PrunerName | AnyPruner)
]
"""A pruner in its long form; the bare word is read as well, so that no reader meets two forms."""

_MOVED = ("startup_trials", "warmup_epochs")


def with_parameters_inside(search: object) -> object:
    """Move the median pruner's parameters into it, where they stand beside its bare word.

    Documents were written so before pruners had parameters of their own, and are stored so.

    Args:
        search: the `search` of a document, as it was given.

    Raises:
        ValidationError: a parameter is no legal one, or the pruner has its long form already.
    """
    if not isinstance(search, Mapping):
        return search
    fields = cast("Mapping[str, Any]", search)
    beside = {name: fields[name] for name in _MOVED if name in fields}
    pruner = fields.get("pruner", "median")
    if not beside or (isinstance(pruner, str) and pruner not in ("median", "none")):
        return fields
    if not isinstance(pruner, str):
        message = "stands within `pruner`, where that says its `kind`"
        refuse("Search", [Fault((name,), "beside_its_pruner", message) for name in beside])
    median = MedianPruner.model_validate({"kind": "median", **beside})
    rest = {name: value for name, value in fields.items() if name not in beside}
    return {**rest, "pruner": median if pruner == "median" else pruner}
