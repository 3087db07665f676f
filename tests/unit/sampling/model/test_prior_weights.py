import numpy as np
import pytest

from service.sampling.model.cube import Cube
from service.sampling.model.prior_weights import EVEN_SHARE, PriorWeights
from service.sampling.prior import value_at
from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange

DIMENSIONS: dict[str, Dimension] = {
    "log": FloatRange(kind="float", low=1e-5, high=1.0, log=True, prior=1e-3, prior_spread=0.5),
    "at the bound": FloatRange(kind="float", low=0.0, high=2.0, prior=2.0),
    "steps": FloatRange(kind="float", low=0.0, high=2.0, step=0.25, prior=0.5),
    "whole": IntRange(kind="int", low=1, high=20, prior=4.0, prior_spread=3.0),
    "whole log": IntRange(kind="int", low=8, high=512, log=True, prior=64.0),
    "favoured": Choices(kind="choices", choices=("a", "b", "c"), prior="b"),
    "even": FloatRange(kind="float", low=0.0, high=3.0),
}
each = pytest.mark.parametrize("name", DIMENSIONS)


@each
def test_its_points_are_those_of_the_initial_design(name: str):
    cube, shares = Cube({name: DIMENSIONS[name]}), (np.arange(50) + 0.5) / 50
    found = cube.snapped(PriorWeights(cube).at(shares[:, None]))
    for point, share in zip(found, shares, strict=True):
        value, right = cube.values(point)[name], value_at(DIMENSIONS[name], float(share))
        assert value == (right if isinstance(right, str) else pytest.approx(right, rel=1e-9))


@each
def test_its_density_integrates_to_one(name: str):
    cube = Cube({name: DIMENSIONS[name]})
    points = ((np.arange(20_000) + 0.5) / 20_000)[:, None]
    density = np.exp(PriorWeights(cube).log_density(points))
    assert density.mean() == pytest.approx(1.0, abs=1e-3)
    assert density.min() >= EVEN_SHARE - 1e-12


def test_it_is_densest_at_the_prior_and_multiplies_over_dimensions():
    cube = Cube({name: DIMENSIONS[name] for name in ("log", "favoured")})
    weights = PriorWeights(cube)
    points = [
        cube.at({"log": rate, "favoured": choice})
        for rate, choice in [(1e-3, "b"), (1e-3, "a"), (1.0, "b"), (1.0, "a")]
    ]
    both, one, other, none = weights.log_density(np.stack(points))
    assert both > max(one, other)
    assert both - one == pytest.approx(other - none)
    assert np.exp(other - none) == pytest.approx((0.1 + 0.9 * 1.5) / (0.1 + 0.9 * 0.75))


def test_a_space_without_priors_weighs_nothing():
    weights = PriorWeights(Cube({"even": DIMENSIONS["even"]}))
    assert not weights
    assert weights.log_density(np.array([[0.1], [0.9]])).tolist() == [0, 0]


def test_a_prior_much_wider_than_its_range_is_even():
    wide = FloatRange(kind="float", low=0.0, high=1.0, prior=0.5, prior_spread=1e9)
    assert not PriorWeights(Cube({"wide": wide}))


def test_its_weight_fades_as_trials_end():
    cube = Cube({"log": DIMENSIONS["log"]})
    weights, points = PriorWeights(cube), np.array([[0.1], [0.6]])
    density = weights.log_density(points)
    assert weights.weigh(points, 2.0, 1) == pytest.approx(2 * density)
    assert weights.weigh(points, 2.0, 40) == pytest.approx(density / 20)
