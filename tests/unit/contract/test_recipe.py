"""The recipe: every hyperparameter a worker understands."""

import math
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from trimtab.contract.hyperparameters import Hyperparameter, hyperparameters, of_scope
from trimtab.contract.recipe import Recipe, Scope

NAMES = sorted(Recipe.model_fields)


def _legal_values(hyperparameter: Hyperparameter) -> st.SearchStrategy[int | float | str]:
    if hyperparameter.choices is not None:
        return st.sampled_from(hyperparameter.choices)
    assert hyperparameter.low is not None
    assert hyperparameter.high is not None
    if hyperparameter.kind == "int":
        return st.integers(int(hyperparameter.low), int(hyperparameter.high))
    return st.floats(
        hyperparameter.low,
        hyperparameter.high,
        exclude_min=hyperparameter.low_exclusive,
        exclude_max=hyperparameter.high_exclusive,
    )


def test_an_empty_recipe_has_every_default() -> None:
    recipe = Recipe.model_validate({})
    assert {
        name: hyperparameter.default for name, hyperparameter in hyperparameters().items()
    } == recipe.model_dump()


def test_every_field_is_a_hyperparameter_with_a_range_and_a_meaning() -> None:
    assert sorted(hyperparameters()) == NAMES
    for hyperparameter in hyperparameters().values():
        assert hyperparameter.description.endswith(".")
        assert "\n" not in hyperparameter.description
        if hyperparameter.kind == "str":
            assert hyperparameter.choices
        else:
            assert hyperparameter.low is not None
            assert hyperparameter.high is not None


def test_every_field_says_what_of_a_training_it_changes() -> None:
    properties = Recipe.model_json_schema()["properties"]
    assert {
        name: schema.get("scope")
        for name, schema in properties.items()
        if schema.get("scope") not in get_args(Scope)
    } == {}


def test_the_hyperparameters_of_a_scope_are_those_that_bear_its_word() -> None:
    parts = [of_scope(scope) for scope in get_args(Scope)]
    assert sorted(name for part in parts for name in part) == NAMES
    assert "shots" in of_scope("data")
    assert "label_smoothing" in of_scope("step")
    assert "lora_rank" in of_scope("network")


def test_bounds_are_read_with_their_exclusiveness() -> None:
    found = hyperparameters()
    assert (found["learning_rate"].low, found["learning_rate"].low_exclusive) == (0, True)
    assert (found["learning_rate"].high, found["learning_rate"].high_exclusive) == (10, False)
    assert (found["momentum"].high, found["momentum"].high_exclusive) == (1, True)
    assert found["optimizer"].choices == ("sgd", "adam", "adamw", "muon")
    assert found["image_size"].kind == "int"
    assert found["head_learning_rate"].kind == "float"
    assert found["head_learning_rate"].low_exclusive


@given(st.data())
def test_every_combination_of_legal_values_is_a_legal_recipe(data: st.DataObject) -> None:
    values = {
        name: data.draw(_legal_values(hyperparameter), label=name)
        for name, hyperparameter in hyperparameters().items()
    }
    assert Recipe.model_validate(values).model_dump() == values


ODD = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.sampled_from(["sgd", "adam", "cosine", "1", ""]),
    st.sampled_from([0, 1, 8, 10, 1024, 10_000, 65_536, 0.0, 1.0, 10.0]),
)


@given(st.sampled_from(NAMES), ODD)
@example("learning_rate", math.nan)
@example("momentum", 1.0)
def test_a_hyperparameter_allows_exactly_what_a_recipe_takes(name: str, value: object) -> None:
    try:
        Recipe.model_validate({name: value})
    except ValidationError:
        assert not hyperparameters()[name].allows(value)
    else:
        assert hyperparameters()[name].allows(value)


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"learning_rate": 0},
        {"learning_rate": "0.1"},
        {"batch_size": 32.0},
        {"batch_size": True},
        {"optimizer": "adamx"},
        {"momentum": 1},
        {"learningrate": 0.1},
    ],
)
def test_a_recipe_refuses_what_is_not_legal(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(values)
