"""What decides that a running trial is not worth another epoch, or not yet: a union told apart by `kind`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from trimtab.contract.auto_search import AutoPruner
from trimtab.contract.faults import Fault, refuse
from trimtab.contract.message import Int, Message, Number
from trimtab.contract.schedulers import AshaScheduler, FreezeThawScheduler, HyperbandScheduler

StartupTrials = Annotated[
    Int,
    Field(ge=1, le=1000, description="It stops nobody until this many trials have completed."),
]
Warmup = Annotated[
    Int,
    Field(
        ge=0,
        le=100_000,
        description="It stops nobody at an epoch before this one, counted from 0.",
    ),
]
WarmupOrHalf = Annotated[
    Annotated[Int, Field(ge=0, le=100_000)] | None,
    Field(
        description="It stops nobody at an epoch before this one, counted from 0; null: half of the trial's own epochs."
    ),
]
FewestTrials = Annotated[
    Int,
    Field(
        ge=1,
        le=1000,
        description="It stops nobody where fewer completed trials than this have a value to be compared with.",
    ),
]


class MedianPruner(Message):
    """Stops a trial whose best value so far is worse than the median of the completed trials at the same epoch.

    Where `epochs` is searched, each is held against the others at the same share of its own epochs.
    """

    kind: Literal["median"]
    startup_trials: StartupTrials = 5
    warmup_epochs: WarmupOrHalf = None
    min_trials: FewestTrials = 1


class PercentilePruner(Message):
    """Stops a trial whose best value so far is not among the best per cent of the completed trials at the same epoch.

    At 50 per cent it is the median pruner. Where `epochs` is searched, trials are compared as there.
    """

    kind: Literal["percentile"]
    percentile: Annotated[Number, Field(ge=0, le=100)] = Field(
        default=25.0,
        description="The share of the completed trials, in per cent, whose values at the epoch a trial must reach to go on.",
    )
    startup_trials: StartupTrials = 5
    warmup_epochs: WarmupOrHalf = None
    min_trials: FewestTrials = 1


class ThresholdPruner(Message):
    """Stops a trial whose last value is below `lower` or above `upper`. It compares with no other trial."""

    kind: Literal["threshold"]
    lower: Number | None = Field(
        default=None, description="The least value that goes on; null: any."
    )
    upper: Number | None = Field(
        default=None, description="The greatest value that goes on; null: any."
    )
    warmup_epochs: Warmup = 0

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.lower is None and self.upper is None:
            message = (
                "a threshold has `lower`, `upper` or both, as {kind: threshold, lower: 0.2}"
            )
            raise PydanticCustomError("without_bounds", message)
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            message = "is above `upper`, so that every trial would stop"
            refuse("ThresholdPruner", [Fault(("lower",), "bounds_swapped", message)])
        return self


class PlateauPruner(Message):
    """Stops a trial that has got no better for some epochs. It compares with no other trial."""

    kind: Literal["plateau"]
    patience: Annotated[Int, Field(ge=1, le=100_000)] = Field(
        default=5,
        description="It stops a trial once the best of this many epochs and one is worse than the best before them.",
    )
    min_delta: Annotated[Number, Field(ge=0)] = Field(
        default=0.0,
        description="The amount by which they may fall short of the best before and still count as no worse.",
    )
    warmup_epochs: Warmup = 0


class NoPruner(Message):
    """Stops no trial."""

    kind: Literal["none"]


PrunerName = Literal[
    "median", "percentile", "plateau", "none", "asha", "hyperband", "freeze_thaw", "auto"
]
"""The kinds whose parameters all have defaults: the bare word stands for the kind with these."""

AnyPruner = Annotated[
    MedianPruner
    | PercentilePruner
    | ThresholdPruner
    | PlateauPruner
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
