import random
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.sampling.model.cube import Cube
from tests.unit.sampling.ledger import any_values, spaces
from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange, contains

SPACE: dict[str, Dimension] = {
    "rate": FloatRange(kind="float", low=1e-4, high=1.0, log=True),
    "momentum": FloatRange(kind="float", low=0.5, high=0.9),
    "warmup": FloatRange(kind="float", low=0.0, high=2.0, step=0.5),
    "stages": IntRange(kind="int", low=0, high=3),
    "batch": IntRange(kind="int", low=1, high=8, log=True),
    "optimizer": Choices(kind="choices", choices=("sgd", None, 3)),
    "fixed": IntRange(kind="int", low=7, high=7),
    "only": Choices(kind="choices", choices=("one",)),
    "point": FloatRange(kind="float", low=0.25, high=0.25),
}
ONE = {
    "rate": 1e-2,
    "momentum": 0.6,
    "warmup": 1.5,
    "stages": 3,
    "batch": 8,
    "optimizer": None,
    "fixed": 7,
    "only": "one",
    "point": 0.25,
}


def test_dimensions_with_one_value_are_no_coordinates():
    cube = Cube(SPACE)
    names = ["batch", "momentum", "optimizer", "rate", "stages", "warmup"]
    assert [one.name for one in cube.axes] == names
    assert (cube.size, cube.width) == (6, 8)
    assert cube.groups.tolist() == [0, 1, 2, 2, 2, 3, 4, 5]
    assert cube.choices.tolist() == [2]


def test_logarithms_cells_and_choices_lie_where_they_are_due():
    found = dict(zip([one.name for one in Cube(SPACE).axes], Cube(SPACE).at(ONE), strict=True))
    assert found["rate"] == pytest.approx(0.5)
    assert found["momentum"] == pytest.approx(0.25)
    assert found["warmup"] == 3.5 / 5
    assert found["stages"] == 3.5 / 4
    assert found["batch"] == pytest.approx(np.log(8 / 0.5) / np.log(8.5 / 0.5))
    assert found["optimizer"] == 1.5 / 3


def test_features_go_from_0_to_1_and_choices_are_features_of_their_own():
    cube = Cube(SPACE)
    low = {**ONE, "rate": 1e-4, "momentum": 0.5, "warmup": 0.0, "stages": 0, "batch": 1}
    found = cube.features(np.stack([cube.at(low), cube.at(ONE)]))
    assert found[0] == pytest.approx([0, 0, 0, 0.7, 0, 0, 0, 0])
    assert found[1] == pytest.approx([1, 0.25, 0, 0.7, 0, 0.5, 1, 0.75])


def test_a_point_has_the_values_of_its_cells_and_the_only_values():
    cube = Cube(SPACE)
    assert cube.values(cube.at(ONE)) == pytest.approx(ONE)
    corner = cube.values(np.ones(cube.size))
    assert corner["optimizer"] == 3
    assert corner["warmup"] == 2.0
    assert corner["batch"] == 8
    assert corner["rate"] == 1.0


def test_each_cell_is_as_wide_as_the_others():
    space: dict[str, Dimension] = {"stages": IntRange(kind="int", low=0, high=3)}
    even = (np.arange(400) + 0.5) / 400
    found = [Cube(space).values([x])["stages"] for x in even]
    assert [found.count(value) for value in range(4)] == [100] * 4


def test_whole_numbers_of_a_log_range_have_cells_by_their_logarithms():
    space: dict[str, Dimension] = {"batch": IntRange(kind="int", low=1, high=8, log=True)}
    even = (np.arange(2000) + 0.5) / 2000
    found = [Cube(space).values([x])["batch"] for x in even]
    share = np.log(1.5 / 0.5) / np.log(8.5 / 0.5)
    assert found.count(1) / 2000 == pytest.approx(share, abs=1e-3)


@settings(max_examples=200)
@given(space=spaces(), rng=st.randoms(use_true_random=False))
def test_a_configuration_comes_back_from_its_point(
    space: dict[str, Dimension], rng: random.Random
):
    cube, values = Cube(space), any_values(space, rng)
    point = cube.at(values)
    assert point.shape == (cube.size,)
    assert ((point >= 0) & (point <= 1)).all()
    assert cube.snapped(point[None])[0] == pytest.approx(point, abs=1e-12)
    found = cube.values(point)
    for name, dimension in space.items():
        assert contains(dimension, found[name])
        if isinstance(dimension, FloatRange) and dimension.step is None:
            at_low = max(abs(dimension.low), abs(dimension.high))
            assert found[name] == pytest.approx(values[name], rel=1e-9, abs=1e-12 * at_low)
        elif isinstance(dimension, FloatRange):
            assert found[name] == pytest.approx(values[name], abs=1e-9)
        else:
            assert found[name] == values[name]


@settings(max_examples=200)
@given(space=spaces(), seed=st.integers(0, 1000))
def test_any_point_of_the_cube_is_a_configuration(space: dict[str, Dimension], seed: int):
    cube = Cube(space)
    points = np.random.default_rng(seed).random((8, cube.size))
    points[0], points[1] = 0.0, 1.0
    snapped = cube.snapped(points)
    assert cube.features(snapped).shape == (8, cube.width)
    for before, after in zip(points, snapped, strict=True):
        values = cube.values(after)
        assert set(values) == set(space)
        assert all(contains(space[name], value) for name, value in values.items())
        assert values == cube.values(before) or _differ_by_rounding(values, cube.values(before))
    assert cube.snapped(snapped) == pytest.approx(snapped, abs=1e-12)


def _differ_by_rounding(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Real numbers of a log range may differ in their last digits."""
    return all(one[name] == pytest.approx(other[name], rel=1e-12) for name in one)


def test_what_is_no_choice_is_told():
    with pytest.raises(ValueError, match="adam"):
        Cube(SPACE).at({**ONE, "optimizer": "adam"})


def test_a_space_of_cells_tells_all_its_points():
    small = {name: SPACE[name] for name in ("batch", "optimizer", "warmup", "only")}
    cube = Cube(small)
    assert cube.cells == 8 * 3 * 5
    points = cube.every_point()
    assert points.shape == (120, 3)
    assert len({str(cube.values(point)) for point in points}) == 120
    assert Cube(SPACE).cells == 0
