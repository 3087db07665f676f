import numpy as np
import pytest

from service.sampling.model.candidates import EVENLY, NEARBY, candidates, neighbours
from service.sampling.model.cube import Cube
from service.sampling.model.prior_weights import PriorWeights
from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange

PLAIN: dict[str, Dimension] = {
    "a": FloatRange(kind="float", low=0.0, high=1.0),
    "b": FloatRange(kind="float", low=0.0, high=1.0),
}
CHOICES: dict[str, Dimension] = {
    name: Choices(kind="choices", choices=("p", "q", "r", "s")) for name in "abc"
}


def test_they_are_drawn_evenly_and_near_the_best():
    cube, chance = Cube(PLAIN), np.random.default_rng(0)
    best = np.array([[0.5, 0.5]])
    found = candidates(cube, best, chance)
    assert found.shape == (EVENLY + NEARBY, 2)
    near = np.abs(found[EVENLY:] - 0.5)
    assert ((found >= 0) & (found <= 1)).all()
    assert np.median(near[near > 0]) < 0.1
    assert np.abs(found[:EVENLY].mean(0) - 0.5) == pytest.approx([0, 0], abs=0.1)


def test_a_neighbour_keeps_each_coordinate_half_of_the_time_but_never_all():
    found = neighbours(Cube(PLAIN), np.array([[0.5, 0.5]]), 4000, np.random.default_rng(1))
    # Both are kept in a quarter of the cases; then one of these moves.
    assert (found == 0.5).mean() == pytest.approx(0.5 - 0.125, abs=0.03)
    assert not (found == 0.5).all(1).any()


def test_neighbours_lie_around_each_of_the_best():
    best = np.array([[0.1, 0.1], [0.9, 0.9]])
    found = neighbours(Cube(PLAIN), best, 200, np.random.default_rng(2))
    low = (found.sum(1) < 1).mean()
    assert low == pytest.approx(0.5, abs=0.15)


def test_all_other_choices_are_as_near_as_each_other():
    cube = Cube(CHOICES)
    best = cube.at(dict.fromkeys("abc", "p"))[None]
    found = cube.snapped(neighbours(cube, best, 6000, np.random.default_rng(3)))
    values = [cube.values(one)["a"] for one in found]
    shares = [values.count(choice) / 6000 for choice in ("p", "q", "r", "s")]
    # A coordinate is drawn anew half of the time, and in a third of the cases in which none is.
    other = (0.5 + 0.125 / 3) / 4
    assert shares == pytest.approx([1 - 3 * other, other, other, other], abs=0.02)


def test_points_of_the_priors_and_further_points_come_last_snapped():
    space: dict[str, Dimension] = {
        "n": IntRange(kind="int", low=0, high=9, prior=3, prior_spread=1e-6)
    }
    cube = Cube(space)
    further = np.array([[0.99]])
    found = candidates(
        cube, np.array([[0.05]]), np.random.default_rng(4), PriorWeights(cube), further
    )
    values = [cube.values(one)["n"] for one in found]
    assert set(values[EVENLY + NEARBY : -1]) == {3}
    assert found[-1] == pytest.approx([0.95])


def test_the_same_random_numbers_give_the_same_points():
    cube, best = Cube(PLAIN), np.array([[0.2, 0.3]])
    once, again = (candidates(cube, best, np.random.default_rng(5)) for _ in range(2))
    assert (once == again).all()
