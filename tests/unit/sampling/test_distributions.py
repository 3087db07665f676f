import json
import random

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from service.sampling import stored
from service.sampling.distributions import distribution
from tests.unit.sampling.ledger import any_values, dimensions, spaces
from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange, contains


def _back(found: BaseDistribution) -> Dimension:
    match found:
        case FloatDistribution():
            return FloatRange(
                kind="float", low=found.low, high=found.high, log=found.log, step=found.step
            )
        case IntDistribution():
            return IntRange(
                kind="int", low=found.low, high=found.high, log=found.log, step=found.step
            )
        case CategoricalDistribution():
            return Choices(kind="choices", choices=found.choices)
        case _:
            raise AssertionError(found)


@given(dimensions())
def test_a_dimension_comes_back_from_optunas_distribution_as_it_was(dimension: Dimension):
    back = _back(distribution(dimension))
    assert back == dimension
    if isinstance(dimension, Choices) and isinstance(back, Choices):
        assert [type(choice) for choice in back.choices] == [
            type(choice) for choice in dimension.choices
        ]


@given(spaces(), st.randoms(use_true_random=False))
def test_a_stored_value_comes_back_as_it_was(space: dict[str, Dimension], rng: random.Random):
    values = any_values(space, rng)
    for name, (value, text) in stored(space, values).items():
        back = distribution(space[name]).to_external_repr(value)
        assert (back, type(back)) == (values[name], type(values[name]))
        assert json.loads(text)["name"] == type(distribution(space[name])).__name__


def test_choices_are_stored_as_their_index():
    space: dict[str, Dimension] = {"x": Choices(kind="choices", choices=(None, False, 3, "a"))}
    indexes = [stored(space, {"x": value})["x"][0] for value in (None, False, 3, "a")]
    assert indexes == [0.0, 1.0, 2.0, 3.0]


def test_a_value_that_is_no_choice_is_refused():
    space: dict[str, Dimension] = {"x": Choices(kind="choices", choices=("a",))}
    with pytest.raises(ValueError, match="not in"):
        stored(space, {"x": "b"})


def test_a_step_divides_its_range_as_decimals_do_so_that_optuna_moves_no_bound():
    tenth = FloatRange(kind="float", low=0.2, high=0.3, step=0.1)
    found = distribution(tenth)
    assert isinstance(found, FloatDistribution)
    assert (found.low, found.high, found.step) == (0.2, 0.3, 0.1)
    with pytest.raises(ValueError, match="divide"):
        FloatRange(kind="float", low=0.0, high=1.0, step=0.33333333333334)


@given(spaces(), st.integers(0, 2**32 - 1))
def test_optuna_samples_inside_the_space(space: dict[str, Dimension], seed: int):
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(sampler=sampler)
    trial = study.ask({name: distribution(space[name]) for name in space})
    assert all(contains(space[name], value) for name, value in trial.params.items())
