"""What the samplers answer."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from trimtab.contract.reasons import Reason
from trimtab.contract.search_space import Scalar

LONGEST = 1024


class NotStored(Exception):
    """The proposal became no trial; raised where it was to be stored, it makes the sampling room forget it at once."""


class SamplingFailed(Exception):
    """A study's sampler, pruner or history met an error of its own; other studies are none the worse."""

    def __init__(self, who: str, error: Exception) -> None:
        super().__init__(f"The {who} failed ({type(error).__name__}: {error})."[:LONGEST])


@dataclass(frozen=True, slots=True)
class Proposal:
    """One configuration to try next, with all that Optuna's tables keep of it."""

    values: Mapping[str, Scalar]
    """The sampled hyperparameters as the contract tells them."""
    internal: Mapping[str, tuple[float, str]]
    """For each name Optuna's `param_value` (an index, for choices) and `distribution_json`."""
    attributes: Mapping[str, JsonValue]
    """Trial system attributes that the sampler wants kept."""
    proposed_by: str | None = None
    """What it comes from, as `Start.proposed_by`, or the sampler's name; None where releases before kept nothing."""
    only_as_number: int | None = None
    """When set, the proposal is void unless it is stored as the trial of this number."""
    runs_until: int | None = None
    """The number of epochs at which the search decides on it again; None: it runs to its end."""
    reason: Reason | None = None
    """Why now, and why this configuration; None where nothing chose."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """A trial that the search has paused and takes up again.

    Attributes:
        number: the trial's number.
        runs_until: the number of epochs at which it is decided on again; None: it runs to its end.
        reason: why this one.
    """

    number: int
    runs_until: int | None
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is to be done until a running trial reports or ends."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The search space has no point left to try, and no paused trial is worth more epochs."""

    at_number: int | None = None
    """The number of trials that have tried all of it, some of which may be on their way to the database; None: those
    that the caller knows of."""


Next = Proposal | Resumption | Waiting | Exhausted
"""What a claim is answered."""
