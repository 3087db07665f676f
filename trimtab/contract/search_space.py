"""Search spaces: names to ranges, told apart by `kind`."""

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, model_validator

from trimtab.contract.faults import Fault, refuse
from trimtab.contract.message import Flag, Int, Message, Number

LARGEST_INT = 2**53
"""The largest bound: above it a float, and so Optuna's `param_value`, cannot tell neighbouring integers apart."""

LARGEST_SPACE_BYTES = 64 * 1024
NARROWEST = 1e-12

Scalar = (
    Annotated[bool, Strict()]
    | Annotated[int, Strict()]
    | Annotated[float, Strict(), Field(allow_inf_nan=False)]
    | Annotated[str, Field(max_length=1024)]
    | None
)
"""One choice: a value of JSON that is not an array or object."""


When = Annotated[
    Mapping[str, Scalar | Annotated[tuple[Scalar, ...], Field(min_length=1)]],
    Field(min_length=1),
]
"""A condition: the names of other dimensions, each with the value, or the values, that it must have."""

Spread = Annotated[Number, Field(gt=0)]

_PRIOR = (
    "Centre of the first trials, which are drawn from a normal distribution around it (of the logarithm, with log), cut "
    "off at the bounds; null: all of the range alike."
)
_WHEN = "Condition: the dimension is active where these others have these values, and all of them are active; null: always."
_PRIOR_SPREAD = "Standard deviation around `prior`: in decades with log, else in the range's own unit; null: a sixth of the range."


class FloatRange(Message):
    """Real numbers from `low` to `high`, both included; `log` searches the exponents."""

    kind: Literal["float"]
    low: Number
    high: Number
    log: Flag = False
    step: Number | None = None
    prior: Number | None = Field(default=None, description=_PRIOR)
    prior_spread: Spread | None = Field(default=None, description=_PRIOR_SPREAD)
    when: When | None = Field(default=None, description=_WHEN)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_bounds(self.low, self.high, log=self.log, step=self.step)
        if self.log and self.low <= 0:
            raise ValueError("a log range needs low > 0")
        _check_prior(self)
        return self


class IntRange(Message):
    """Whole numbers from `low` to `high`, both included."""

    kind: Literal["int"]
    low: Annotated[Int, Field(ge=-LARGEST_INT, le=LARGEST_INT)]
    high: Annotated[Int, Field(ge=-LARGEST_INT, le=LARGEST_INT)]
    log: Flag = False
    step: Annotated[Int, Field(ge=1)] = 1
    prior: Number | None = Field(default=None, description=_PRIOR)
    prior_spread: Spread | None = Field(default=None, description=_PRIOR_SPREAD)
    when: When | None = Field(default=None, description=_WHEN)

    @model_validator(mode="after")
    def _check(self) -> Self:
        step = None if self.step == 1 else self.step
        _check_bounds(self.low, self.high, log=self.log, step=step)
        if self.log and self.low < 1:
            raise ValueError("a log range of whole numbers needs low >= 1")
        _check_prior(self)
        return self


class Choices(Message):
    """A fixed set of values, without order."""

    kind: Literal["choices"]
    choices: Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=1000)]
    prior: Scalar = Field(
        default=None,
        description="The favoured choice: it is drawn half of the time, the others share the rest; null: none is favoured.",
    )
    when: When | None = Field(default=None, description=_WHEN)

    @model_validator(mode="after")
    def _check(self) -> Self:
        # In Python 1 == 1.0 == True, and Optuna, which stores an index, would return another of the equal values.
        if len(set(self.choices)) != len(self.choices):
            raise ValueError("choices must differ (1, 1.0 and true count as equal)")
        if self.prior is not None and not contains(self, self.prior):
            _refuse_prior(self, "prior", "prior_no_choice", "must be one of the choices")
        return self


Dimension = Annotated[FloatRange | IntRange | Choices, Field(discriminator="kind")]
Space = Mapping[str, Dimension]


def _check_bounds(low: float, high: float, *, log: bool, step: float | None) -> None:
    if low > high:
        raise ValueError("low must not be above high")
    if math.isinf(high - low):
        raise ValueError("the range is too wide for a float")
    if step is None:
        return
    if log:
        raise ValueError("step and log exclude each other")
    if step <= 0:
        raise ValueError("step must be above 0")
    if (high - low) / step > LARGEST_INT:
        raise ValueError("step is too small for this range")
    # As Optuna counts: in decimals, so that 0.2 to 0.3 is one step of 0.1. It would move `high` without a word.
    if (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)) != 0:
        raise ValueError("step must divide high - low")


def _check_prior(found: FloatRange | IntRange) -> None:
    if found.prior is None and found.prior_spread is not None:
        _refuse_prior(
            found, "prior_spread", "spread_without_prior", "stands only beside a `prior`"
        )
    if found.prior is not None and not found.low <= found.prior <= found.high:
        message = f"lies outside the range, which goes from {found.low} to {found.high}"
        _refuse_prior(found, "prior", "prior_outside_range", message)


def _refuse_prior(found: Message, field: str, code: str, message: str) -> None:
    refuse(type(found).__name__, [Fault((field,), code, message)])


def check_size(space: Space) -> None:
    """Raise ValueError when the space is empty, has over 200 names or more than 64 KiB of JSON."""
    if not 1 <= len(space) <= 200:
        raise ValueError(
            "the space needs 1 to 200 hyperparameters; `auto` searches none that stands in `fixed`"
        )
    text = json.dumps({name: _told(dimension) for name, dimension in space.items()})
    if len(text.encode()) > LARGEST_SPACE_BYTES:
        raise ValueError("the space is larger than 64 KiB of JSON")


def _told(dimension: "Dimension") -> dict[str, Any]:
    """The dimension without the fields that releases before did not have: what they stored must not be too large now."""
    unset = {
        field
        for field in ("prior", "prior_spread", "when")
        if getattr(dimension, field, 0) is None
    }
    return dimension.model_dump(exclude=unset)


def nearest(dimension: FloatRange | IntRange | Choices, value: Scalar) -> Scalar:
    """Return the member that comes nearest to a value that may lie outside.

    A range takes its nearest point, and for what is no number its prior, or else its middle; choices take the one that
    equals the value, or else their favoured one, or else the first.
    """
    if isinstance(dimension, Choices):
        equal = (choice for choice in dimension.choices if choice == value)
        return next(equal, dimension.choices[0] if dimension.prior is None else dimension.prior)
    if isinstance(value, bool) or not isinstance(value, int | float):
        value = middle(dimension)
    if dimension.step is None:
        return min(max(float(value), dimension.low), dimension.high)
    last = round((dimension.high - dimension.low) / dimension.step)
    index = round((value - dimension.low) / dimension.step)
    return point(dimension, min(max(index, 0), last))


def usual(dimension: FloatRange | IntRange | Choices) -> Scalar:
    """Return the member that stands for a dimension where nothing is known: the prior, or the middle, or the first choice."""
    if isinstance(dimension, Choices):
        return dimension.choices[0] if dimension.prior is None else dimension.prior
    return nearest(dimension, middle(dimension))


def middle(dimension: FloatRange | IntRange) -> float:
    """Return the prior of a range, or else the middle in its own scale; with a step it may lie between two points."""
    if dimension.prior is not None:
        return dimension.prior
    if dimension.log:
        return math.exp((math.log(dimension.low) + math.log(dimension.high)) / 2)
    return dimension.low + (dimension.high - dimension.low) / 2


def point(dimension: FloatRange | IntRange, index: int) -> int | float:
    """Return the point of a range with steps that stands at `index`, counted from 0."""
    if isinstance(dimension, IntRange):
        return dimension.low + index * dimension.step
    # As decimals: 0.1 + 2 * 0.1 is 0.3 to whoever wrote the space.
    offset = index * Decimal(str(dimension.step or 0))
    return min(float(Decimal(str(dimension.low)) + offset), dimension.high)


def is_too_narrow(dimension: FloatRange | IntRange | Choices) -> bool:
    """Whether a range of real numbers is no range to a sampler: one part in 10^12, where floats have 16 digits."""
    if not isinstance(dimension, FloatRange) or dimension.low == dimension.high:
        return False
    low, high = dimension.low, dimension.high
    if dimension.log:
        return math.log(high) - math.log(low) < NARROWEST
    return high - low < NARROWEST * max(abs(low), abs(high))


def contains(dimension: FloatRange | IntRange | Choices, value: Scalar) -> bool:
    """Whether `value` is a member, type included: `true` is not 1 and 1.0 is not 1."""
    match dimension:
        case Choices():
            return any(
                value == choice and type(value) is type(choice) for choice in dimension.choices
            )
        case IntRange():
            return type(value) is int and _on_grid(
                value, dimension.low, dimension.high, dimension.step
            )
        case FloatRange():
            is_number = type(value) in (int, float)
            return is_number and _on_grid(
                float(value or 0), dimension.low, dimension.high, dimension.step
            )


def _on_grid(value: float, low: float, high: float, step: float | None) -> bool:
    if not low <= value <= high:
        return False
    if step is None:
        return True
    steps = (value - low) / step
    return abs(steps - round(steps)) <= 1e-8 * max(1.0, steps)
