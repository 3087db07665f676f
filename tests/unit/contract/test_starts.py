"""Priors and points to begin with in a document: what is legal, and what is refused at its place."""

import json
from contextlib import nullcontext
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.support.documents import a_document, a_study_document
from trimtab.contract.faults import refusal
from trimtab.contract.search_space import (
    LARGEST_SPACE_BYTES,
    Choices,
    Dimension,
    FloatRange,
    IntRange,
    Scalar,
    check_size,
    nearest,
)
from trimtab.contract.studies import StudyDocument

RATE = {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True}
BATCH = {"kind": "choices", "choices": [16, 32]}
DIMENSION = TypeAdapter[Any](Dimension)
STAGES = {"kind": "int", "low": 0, "high": 4}


def refused(**changes: Any) -> list[tuple[str, str]]:
    document = a_document(**changes)
    with pytest.raises(ValidationError) as raised:
        StudyDocument.model_validate(document)
    problem = refusal(StudyDocument, document, raised.value.errors(include_url=False))
    return [(fault.pointer, fault.code) for fault in problem.errors]


@pytest.mark.parametrize(
    ("dimension", "field", "code"),
    [
        (RATE | {"prior": 1e-5}, "prior", "prior_outside_range"),
        (RATE | {"prior": 0.2}, "prior", "prior_outside_range"),
        (STAGES | {"prior": 5}, "prior", "prior_outside_range"),
        (RATE | {"prior_spread": 0.5}, "prior_spread", "spread_without_prior"),
        (STAGES | {"prior_spread": 0.5}, "prior_spread", "spread_without_prior"),
        (RATE | {"prior": 1e-3, "prior_spread": 0}, "prior_spread", "greater_than"),
        (BATCH | {"prior": 64}, "prior", "prior_no_choice"),
        (BATCH | {"prior": 16.0}, "prior", "prior_no_choice"),
        (BATCH | {"prior_spread": 1}, "prior_spread", "extra_forbidden"),
    ],
)
def test_a_prior_that_is_none_is_refused_at_its_place(
    dimension: dict[str, Any], field: str, code: str
) -> None:
    name = "frozen_stages" if dimension["kind"] == "int" else "batch_size"
    name = "learning_rate" if dimension["kind"] == "float" else name
    assert refused(space={name: dimension}) == [(f"/space/{name}/{field}", code)]


def test_a_bound_may_be_the_centre() -> None:
    for prior in (1e-4, 1e-1):
        FloatRange.model_validate(RATE | {"prior": prior})


def test_a_space_that_was_just_small_enough_for_a_release_without_priors_still_is() -> None:
    old = {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True, "step": None}
    texts = ["x" * 1000 + str(number) for number in range(50)]
    told: dict[str, Any] = {f"d{number}": old for number in range(100)}
    told["x"] = {"kind": "choices", "choices": [*texts, ""]}
    rest = LARGEST_SPACE_BYTES - len(json.dumps(told))
    for more, is_legal in ((rest, True), (rest + 1, False)):
        pads = ["y" * 1000 + str(number) for number in range(more // 1008)]
        many = [*texts, *pads, "z" * (more - sum(len(pad) + 4 for pad in pads))]
        grown = told | {"x": told["x"] | {"choices": many}}
        assert len(json.dumps(grown)) == LARGEST_SPACE_BYTES + (more - rest)
        space = {name: DIMENSION.validate_python(one) for name, one in grown.items()}
        with nullcontext() if is_legal else pytest.raises(ValueError, match="64 KiB"):
            check_size(space)


@pytest.mark.parametrize(
    ("dimension", "value", "point"),
    [
        (FloatRange.model_validate(RATE), 3e-3, 3e-3),
        (FloatRange.model_validate(RATE), 1.0, 1e-1),
        (FloatRange.model_validate(RATE), 1e-9, 1e-4),
        (FloatRange.model_validate(RATE), None, pytest.approx(10**-2.5)),
        (FloatRange.model_validate(RATE | {"prior": 2e-3}), "x", 2e-3),
        (FloatRange(kind="float", low=0.0, high=0.9, step=0.3), 0.5, 0.6),
        (FloatRange(kind="float", low=0.0, high=0.9, step=0.3), None, 0.6),
        (IntRange.model_validate(STAGES), 9, 4),
        (IntRange(kind="int", low=10, high=100, step=10), 32, 30),
        (IntRange(kind="int", low=10, high=100, step=10), -1, 10),
        (IntRange(kind="int", low=16, high=128, log=True), 32, 32),
        (Choices(kind="choices", choices=(16, 32)), 32, 32),
        (Choices(kind="choices", choices=(0, 1)), 0.0, 0),
        (Choices(kind="choices", choices=("linear", "step")), "cosine", "linear"),
        (Choices(kind="choices", choices=("linear", "step"), prior="step"), "cosine", "step"),
    ],
)
def test_the_nearest_member_of_a_dimension(dimension: Any, value: Scalar, point: Any) -> None:
    found = nearest(dimension, value)
    assert found == point
    assert isinstance(found, float) == isinstance(dimension, FloatRange)


def test_first_trials_are_points_of_the_space_and_may_be_partial() -> None:
    points = [{"learning_rate": 3e-3, "batch_size": 32}, {"learning_rate": 1e-2}, {}]
    document = a_study_document(first_trials=points)
    assert [dict(one) for one in document.first_trials] == points
    assert StudyDocument.model_validate_json(document.model_dump_json()) == document


def test_a_strange_first_trial_is_told_at_its_place() -> None:
    points = [
        {"learning_rate": 3e-3},
        {"momentum": 0.9, "batch_size": 48},
        {"learning_rate": 1.0, "epochs": 4},
    ]
    assert refused(first_trials=points) == [
        ("/first_trials/1/momentum", "not_searched"),
        ("/first_trials/1/batch_size", "outside_its_dimension"),
        ("/first_trials/2/learning_rate", "outside_its_dimension"),
        ("/first_trials/2/epochs", "not_searched"),
    ]


def test_a_hundred_first_trials_are_the_most() -> None:
    a_study_document(first_trials=[{"batch_size": 16}] * 100)
    assert refused(first_trials=[{"batch_size": 16}] * 101) == [("/first_trials", "too_long")]


def test_a_grid_has_an_order_of_its_own() -> None:
    found = refused(
        space={"batch_size": BATCH},
        search={"sampler": "grid"},
        first_trials=[{"batch_size": 16}],
    )
    assert found == [("/first_trials", "first_trials_of_a_grid")]


def test_starts_that_do_not_fit_the_space_are_refused() -> None:
    start = {"values": {"momentum": 0.9}, "proposed_by": "known_recipe:plain"}
    assert refused(starts=[start]) == [("/starts/0/values/momentum", "not_searched")]


def test_what_was_filled_in_is_fixed() -> None:
    assert refused(completed=["schedule"]) == [("/completed/0", "not_fixed")]


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 0),
        ({"starts": []}, 3),
        ({"starts": [], "first_trials": [{"batch_size": 16}] * 5}, 5),
        (
            {
                "starts": [],
                "search": {"sampler": "grid", "initial_trials": 3},
                "space": {"batch_size": BATCH},
            },
            0,
        ),
    ],
)
def test_the_number_of_trials_that_are_made_by_their_number(
    changes: dict[str, Any], count: int
) -> None:
    document = a_document(**({"search": {"initial_trials": 3}} | changes))
    assert StudyDocument.model_validate(document).numbered_trials == count
