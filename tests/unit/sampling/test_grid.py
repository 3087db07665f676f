import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.sampling.grid import Cells
from tests.unit.sampling.ledger import choices, float_ranges, int_ranges
from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange, contains

FINITE = st.one_of(
    choices(),
    int_ranges(),
    float_ranges().filter(lambda found: found.step is not None or found.low == found.high),
)


def test_the_last_name_varies_fastest_and_names_are_in_alphabetical_order():
    space: dict[str, Dimension] = {
        "b": Choices(kind="choices", choices=("x", None)),
        "a": IntRange(kind="int", low=1, high=5, step=2),
    }
    cells = [Cells(space).cell(number) for number in range(7)]
    assert cells == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": None},
        {"a": 3, "b": "x"},
        {"a": 3, "b": None},
        {"a": 5, "b": "x"},
        {"a": 5, "b": None},
        None,
    ]


def test_real_steps_are_counted_as_the_decimals_that_were_written():
    space: dict[str, Dimension] = {"a": FloatRange(kind="float", low=0.1, high=0.4, step=0.1)}
    assert [Cells(space).cell(n) for n in range(5)] == [
        {"a": 0.1},
        {"a": 0.2},
        {"a": 0.3},
        {"a": 0.4},
        None,
    ]


def test_a_single_point_is_one_cell():
    space: dict[str, Dimension] = {"a": FloatRange(kind="float", low=0.1, high=0.1)}
    assert Cells(space).cell(0) == {"a": 0.1}
    assert Cells(space).cell(1) is None


def test_a_range_without_steps_has_no_grid():
    with pytest.raises(ValueError, match="step"):
        Cells({"a": FloatRange(kind="float", low=0.0, high=1.0)}).cell(0)


@given(st.dictionaries(st.sampled_from("abc"), FINITE, min_size=1, max_size=3), st.randoms())
def test_every_cell_is_inside_the_space_and_no_cell_comes_twice(
    space: dict[str, Dimension], rng: random.Random
):
    for name in rng.sample(sorted(space), len(space)):
        alone = {name: space[name]}
        column = list(
            itertools.takewhile(bool, (Cells(alone).cell(n) for n in itertools.count()))
        )
        values = [found[name] for found in column if found]
        assert all(contains(space[name], value) for value in values)
        assert len(set(values)) == len(values)
    first = Cells(space).cell(0)
    assert first is not None
    assert set(first) == set(space)


def test_the_cells_are_all_combinations_once():
    space: dict[str, Dimension] = {
        "a": Choices(kind="choices", choices=(True, False)),
        "b": IntRange(kind="int", low=0, high=2),
        "c": FloatRange(kind="float", low=0.0, high=1.0, step=0.5),
    }
    found = [tuple((Cells(space).cell(number) or {}).values()) for number in range(18)]
    every = set(itertools.product((True, False), (0, 1, 2), (0.0, 0.5, 1.0)))
    assert {tuple(reversed(values)) for values in found} == every
    assert Cells(space).cell(18) is None
