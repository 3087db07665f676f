"""Priors of dimensions: the values at shares of them, and points that spread evenly."""

import random
from statistics import NormalDist, fmean, pstdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.sampling.prior import halton, point_at, value_at
from tests.unit.sampling.ledger import SPACE, dimensions, document
from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange, contains

SHARES = [(number + 0.5) / 1000 for number in range(1000)]


def rate(**changes: Any) -> FloatRange:
    values = {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True} | changes
    return FloatRange.model_validate(values)


def values_of(dimension: Dimension) -> list[Any]:
    return [value_at(dimension, share) for share in SHARES]


def test_without_a_prior_all_of_a_range_is_alike_in_its_own_scale() -> None:
    assert value_at(rate(), 0.5) == pytest.approx(10**-2.5)
    assert value_at(rate(log=False), 0.5) == pytest.approx(0.05005)


def test_half_of_a_prior_lies_below_its_centre_where_the_bounds_are_far() -> None:
    assert value_at(rate(prior=2e-3, prior_spread=0.1), 0.5) == pytest.approx(2e-3)
    plain = rate(log=False, low=0, high=10, prior=4, prior_spread=0.5)
    assert value_at(plain, 0.5) == pytest.approx(4)


def test_a_spread_is_in_decades_of_a_log_range_and_in_the_unit_of_another() -> None:
    above = NormalDist().cdf(1)
    assert value_at(rate(prior=2e-3, prior_spread=0.1), above) == pytest.approx(2e-3 * 10**0.1)
    plain = rate(log=False, low=0, high=10, prior=4, prior_spread=0.5)
    assert value_at(plain, above) == pytest.approx(4.5)


def test_without_a_spread_it_is_a_sixth_of_the_range() -> None:
    # Three decades: a sixth is half a decade. The bounds, three spreads away, cut off little.
    centre = rate(prior=10**-2.5)
    assert value_at(centre, NormalDist().cdf(1)) == pytest.approx(10**-2, rel=0.01)


def test_a_prior_is_cut_off_at_the_bounds_and_not_heaped_up_there() -> None:
    at_the_edge = rate(prior=1e-4, prior_spread=0.2)
    values = values_of(at_the_edge)
    assert min(values) > 1e-4
    assert value_at(at_the_edge, 0.5) == pytest.approx(1e-4 * 10 ** (0.2 * 0.6745), rel=1e-3)


def test_a_favoured_choice_is_drawn_half_of_the_time_and_the_others_share_the_rest() -> None:
    values = values_of(Choices(kind="choices", choices=(0, 1, 2), prior=1))
    assert [values.count(choice) for choice in (0, 1, 2)] == [250, 500, 250]
    even = values_of(Choices(kind="choices", choices=("a", "b"), prior=None))
    assert even.count("a") == 500
    assert values_of(Choices(kind="choices", choices=("a",), prior="a")) == ["a"] * 1000


def test_each_whole_number_and_each_step_is_as_likely_as_the_next() -> None:
    whole = values_of(IntRange(kind="int", low=0, high=3))
    assert [whole.count(number) for number in range(4)] == [250] * 4
    steps = values_of(FloatRange(kind="float", low=0.0, high=0.3, step=0.1))
    assert [steps.count(number) for number in (0.0, 0.1, 0.2, 0.3)] == [250] * 4


def test_whole_numbers_have_a_centre_too() -> None:
    values = values_of(IntRange(kind="int", low=0, high=20, prior=5, prior_spread=2))
    assert fmean(values) == pytest.approx(5, abs=0.1)
    assert pstdev(values) == pytest.approx(2, abs=0.1)


@given(dimension=dimensions(), share=st.floats(1e-9, 1 - 1e-9), rng=st.randoms())
def test_any_share_of_any_prior_is_a_member(
    dimension: Dimension, share: float, rng: random.Random
) -> None:
    assert contains(dimension, value_at(dimension, share))
    if isinstance(dimension, Choices):
        favoured = dimension.model_copy(update={"prior": rng.choice(dimension.choices)})
    else:
        spread = rng.choice([None, 1e-300, 1e-3, 1e300])
        prior = rng.choice([dimension.low, dimension.high])
        favoured = dimension.model_copy(update={"prior": prior, "prior_spread": spread})
    assert contains(dimension, value_at(favoured, share))


@pytest.mark.parametrize("count", [4, 8, 16])
def test_points_of_the_sequence_spread_over_every_dimension(count: int) -> None:
    for seed in range(20):
        points = [halton("a", seed, number)["a"] for number in range(count)]
        # Of base 2: each of `count` equal parts has one.
        assert sorted(int(point * count) for point in points) == list(range(count))


def test_the_sequence_has_a_seed_and_its_shares_lie_between_the_bounds() -> None:
    names = [f"d{number}" for number in range(200)]
    points = [halton(names, seed, number) for seed in (0, 1) for number in range(10)]
    assert all(0 < share < 1 for point in points for share in point.values())
    assert len({tuple(point.values()) for point in points}) == 20
    assert halton(names, 0, 3) == points[3]


def test_in_many_dimensions_the_points_do_not_move_together() -> None:
    names = [f"d{number}" for number in range(200)]
    first, second = halton(names, 0, 0), halton(names, 0, 1)
    assert sum(first[name] < second[name] for name in names) in range(70, 131)


def test_a_point_has_a_value_of_each_dimension() -> None:
    space = document().space
    for number in range(20):
        found = point_at(space, 0, number)
        assert set(found) == set(SPACE)
        assert all(contains(space[name], value) for name, value in found.items())
