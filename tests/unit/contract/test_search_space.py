"""Search spaces: which values are members, type included."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis.strategies import (
    DrawFn,
    booleans,
    composite,
    floats,
    integers,
    lists,
    none,
    text,
)
from pydantic import ValidationError

from trimtab.contract.search_space import (
    LARGEST_INT,
    Choices,
    FloatRange,
    IntRange,
    check_size,
    contains,
    is_too_narrow,
)

finite = floats(allow_nan=False, allow_infinity=False)
scalars = none() | booleans() | integers(-1000, 1000) | finite | text(max_size=5)


@composite
def float_ranges(draw: DrawFn) -> FloatRange:
    low, high = sorted((draw(floats(-1e6, 1e6)), draw(floats(-1e6, 1e6))))
    return FloatRange(kind="float", low=low, high=high)


@composite
def int_ranges(draw: DrawFn) -> IntRange:
    low, step, steps = draw(integers(-1000, 1000)), draw(integers(1, 50)), draw(integers(1, 50))
    return IntRange(kind="int", low=low, high=low + step * steps, step=step)


@composite
def stepped_ranges(draw: DrawFn) -> tuple[FloatRange, int]:
    low, step, steps = (
        draw(integers(-(10**5), 10**5)),
        draw(integers(1, 10**4)),
        draw(integers(1, 200)),
    )
    high = (low + step * steps) / 1000
    return FloatRange(kind="float", low=low / 1000, high=high, step=step / 1000), steps


@given(float_ranges(), finite)
def test_a_float_range_holds_the_numbers_between_its_bounds(
    space: FloatRange, value: float
) -> None:
    assert contains(space, value) == (space.low <= value <= space.high)
    assert contains(space, space.low)
    assert contains(space, space.high)
    assert not contains(space, math.nextafter(space.high, math.inf))
    assert not contains(space, math.nextafter(space.low, -math.inf))


@given(int_ranges(), integers(-2000, 4000))
def test_an_int_range_holds_its_grid(space: IntRange, value: int) -> None:
    assert contains(space, value) == (value in range(space.low, space.high + 1, space.step))


@given(stepped_ranges(), integers(0, 200))
def test_a_stepped_range_holds_its_grid_and_nothing_between(
    case: tuple[FloatRange, int], index: int
) -> None:
    space, steps = case
    assert space.step is not None
    index = min(index, steps)
    on_grid = min(space.low + index * space.step, space.high)
    assert contains(space, on_grid)
    if index < steps:
        assert not contains(space, on_grid + space.step / 2)


@given(
    lists(
        text(max_size=5) | integers() | booleans() | none(),
        min_size=1,
        max_size=6,
        unique_by=lambda v: v,
    ),
    scalars,
)
def test_choices_hold_what_they_name_type_included(choices: list[Any], value: Any) -> None:
    space = Choices(kind="choices", choices=tuple(choices))
    expected = any(type(choice) is type(value) and choice == value for choice in choices)
    assert contains(space, value) == expected


@pytest.mark.parametrize(
    "space",
    [
        FloatRange(kind="float", low=0.0, high=1.0),
        IntRange(kind="int", low=0, high=1),
        Choices(kind="choices", choices=(1,)),
    ],
)
@pytest.mark.parametrize("value", [True, False, "1", None, math.nan, math.inf, -math.inf])
def test_true_text_and_what_is_not_finite_are_no_numbers(space: Any, value: Any) -> None:
    assert not contains(space, value)


def test_a_whole_number_is_a_real_one_and_not_the_reverse() -> None:
    assert contains(FloatRange(kind="float", low=0.0, high=1.0), 1)
    assert contains(FloatRange(kind="float", low=0.0, high=1.0), 0)
    assert not contains(IntRange(kind="int", low=0, high=1), 1.0)
    assert not contains(Choices(kind="choices", choices=(1,)), 1.0)


@given(finite, finite, booleans(), none() | finite)
@example(low=0.0, high=1e30, log=False, step=1e-5)
def test_a_range_is_legal_or_refused_and_a_legal_one_holds_its_bounds(
    low: float, high: float, log: bool, step: float | None
) -> None:
    try:
        space = FloatRange(kind="float", low=low, high=high, log=log, step=step)
    except ValidationError:
        return
    assert low <= high
    assert not math.isinf(high - low)
    assert not (log and low <= 0)
    assert not (log and step is not None)
    assert step is None or step > 0
    assert contains(space, low)
    assert contains(space, high)


@given(integers(-(2**54), 2**54), integers(-(2**54), 2**54), booleans(), integers(-2, 50))
def test_whole_bounds_are_legal_or_refused(low: int, high: int, log: bool, step: int) -> None:
    try:
        space = IntRange(kind="int", low=low, high=high, log=log, step=step)
    except ValidationError:
        return
    assert -LARGEST_INT <= low <= high <= LARGEST_INT
    assert step >= 1
    assert not (log and (low < 1 or step != 1))
    assert contains(space, low)
    assert contains(space, high)


@pytest.mark.parametrize("choices", [(1, 1), (1, 1.0), (1, True), (0, False), ("a", "a")])
def test_choices_that_python_holds_equal_are_refused(choices: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError, match="choices must differ"):
        Choices(kind="choices", choices=choices)


@pytest.mark.parametrize(
    ("count", "is_legal"), [(0, False), (1, True), (200, True), (201, False)]
)
def test_a_space_has_1_to_200_names(count: int, is_legal: bool) -> None:
    space = {f"p{number}": Choices(kind="choices", choices=(1,)) for number in range(count)}
    if is_legal:
        check_size(space)
        return
    with pytest.raises(ValueError, match="1 to 200"):
        check_size(space)


@pytest.mark.parametrize(
    ("low", "high", "log", "narrow"),
    [
        (1e-3, 1e-3 * (1 + 2.3e-16), True, True),
        (1.0, 1.0 + 1e-13, True, True),
        (1.0, 1.0 + 1e-11, True, False),
        (5.0, 5.0 + 1e-12, False, True),
        (-5.0, -5.0 + 1e-12, False, True),
        (0.0, 1e-300, False, False),
        (0.5, 0.5, False, False),
        (1e-5, 1e-1, True, False),
    ],
)
def test_a_range_that_floats_can_hardly_tell_from_a_point_is_too_narrow(
    low: float, high: float, log: bool, narrow: bool
) -> None:
    assert is_too_narrow(FloatRange(kind="float", low=low, high=high, log=log)) == narrow
    assert not is_too_narrow(Choices(kind="choices", choices=(low,)))
