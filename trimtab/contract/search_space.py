"""Search spaces: names to ranges, told apart by `kind`."""

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

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


class FloatRange(Message):
    """Real numbers from `low` to `high`, both included; `log` searches the exponents."""

    kind: Literal["float"]
    low: Number
    high: Number
    log: Flag = False
    step: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_bounds(self.low, self.high, log=self.log, step=self.step)
        if self.log and self.low <= 0:
            raise ValueError("a log range needs low > 0")
        return self


class IntRange(Message):
    """Whole numbers from `low` to `high`, both included."""

    kind: Literal["int"]
    low: Annotated[Int, Field(ge=-LARGEST_INT, le=LARGEST_INT)]
    high: Annotated[Int, Field(ge=-LARGEST_INT, le=LARGEST_INT)]
    log: Flag = False
    step: Annotated[Int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        step = None if self.step == 1 else self.step
        _check_bounds(self.low, self.high, log=self.log, step=step)
        if self.log and self.low < 1:
            raise ValueError("a log range of whole numbers needs low >= 1")
        return self


class Choices(Message):
    """A fixed set of values, without order."""

    kind: Literal["choices"]
    choices: Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        # In Python 1 == 1.0 == True, and Optuna, which stores an index, would return another of the equal values.
        if len(set(self.choices)) != len(self.choices):
            raise ValueError("choices must differ (1, 1.0 and true count as equal)")
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


def check_size(space: Space) -> None:
    """Raise ValueError when the space is empty, has over 200 names or more than 64 KiB of JSON."""
    if not 1 <= len(space) <= 200:
        raise ValueError("the space needs 1 to 200 hyperparameters")
    text = json.dumps({name: dimension.model_dump() for name, dimension in space.items()})
    if len(text.encode()) > LARGEST_SPACE_BYTES:
        raise ValueError("the space is larger than 64 KiB of JSON")


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
