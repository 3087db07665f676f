"""Conditions in a document: which dimensions are active where, and what is refused at its place."""

from typing import Any

import pytest

from tests.support.documents import a_study_document
from tests.unit.contract.test_starts import refused
from trimtab.contract.conditions import MOST_COMBINATIONS, Conditions
from trimtab.contract.search_space import Scalar

RATE = {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True}
OPTIMIZER = {"kind": "choices", "choices": ["sgd", "muon", "adamw"]}
MOMENTUM = {"kind": "float", "low": 0.8, "high": 0.99, "when": {"optimizer": ["sgd", "muon"]}}
HEAD = {"kind": "choices", "choices": ["linear", "mlp"], "when": {"frozen_stages": 2}}
WIDTH = {"kind": "int", "low": 8, "high": 64, "when": {"head": "mlp", "optimizer": "sgd"}}
STAGES = {"kind": "int", "low": 0, "high": 2}
SPACE: dict[str, Any] = {
    "optimizer": OPTIMIZER,
    "momentum": MOMENTUM,
    "frozen_stages": STAGES,
    "head": HEAD,
    "head_width": WIDTH,
}
NONE: list[str] = []
MANY = {"kind": "int", "low": 1, "high": MOST_COMBINATIONS + 1}


def rules() -> Conditions:
    return Conditions(a_study_document(space=SPACE).space)


@pytest.mark.parametrize(
    ("values", "active"),
    [
        ({"optimizer": "sgd", "frozen_stages": 0}, {"momentum"}),
        ({"optimizer": "muon", "frozen_stages": 0}, {"momentum"}),
        ({"optimizer": "adamw", "frozen_stages": 2}, {"head"}),
        ({"optimizer": "sgd", "frozen_stages": 2}, {"momentum", "head", "head_width"}),
        ({"optimizer": "adamw", "frozen_stages": 0}, set[str]()),
        # The head is inactive, whatever its value here says.
        ({"optimizer": "sgd", "frozen_stages": 1}, {"momentum"}),
    ],
)
def test_a_dimension_is_active_where_all_that_it_stands_on_is_so(
    values: dict[str, Scalar], active: set[str]
) -> None:
    whole: dict[str, Scalar] = {"momentum": 0.9, "head": "mlp", "head_width": 8, **values}
    assert set(rules().active(whole)) == {"optimizer", "frozen_stages", *active}


def test_without_conditions_all_is_active() -> None:
    found = Conditions(a_study_document(space={"optimizer": OPTIMIZER}).space)
    assert not found
    assert found.active({"optimizer": "sgd"}) == {"optimizer": "sgd"}


@pytest.mark.parametrize(
    ("space", "place", "code"),
    [
        (
            {"momentum": MOMENTUM, "learning_rate": RATE},
            "momentum/when/optimizer",
            "condition_on_nothing",
        ),
        (
            {"optimizer": OPTIMIZER, "momentum": MOMENTUM | {"when": {"optimizer": "adam"}}},
            "momentum/when/optimizer",
            "condition_on_no_member",
        ),
        (
            {"frozen_stages": STAGES, "momentum": MOMENTUM | {"when": {"frozen_stages": 1.0}}},
            "momentum/when/frozen_stages",
            "condition_on_no_member",
        ),
        (
            {"learning_rate": RATE, "momentum": MOMENTUM | {"when": {"learning_rate": 1e-3}}},
            "momentum/when/learning_rate",
            "condition_on_real_numbers",
        ),
        (
            {"head": HEAD | {"when": {"head": "mlp"}}},
            "head/when",
            "condition_in_a_circle",
        ),
        (
            {
                "optimizer": OPTIMIZER,
                "head": HEAD | {"when": {"optimizer": "adamw"}},
                "head_width": WIDTH,
            },
            "head_width/when",
            "condition_never_holds",
        ),
        (
            {
                "optimizer": OPTIMIZER,
                "epochs": STAGES | {"low": 1, "when": {"optimizer": "sgd"}},
            },
            "epochs/when",
            "conditional_epochs",
        ),
        (
            {"batch_size": MANY, "momentum": MOMENTUM | {"when": {"batch_size": 8}}},
            "",
            "too_many_combinations",
        ),
        (
            {"optimizer": OPTIMIZER, "momentum": MOMENTUM | {"when": {}}},
            "momentum/when",
            "too_short",
        ),
        (
            {"optimizer": OPTIMIZER, "momentum": MOMENTUM | {"when": {"optimizer": NONE}}},
            "momentum/when/optimizer",
            "too_short",
        ),
    ],
)
def test_a_condition_that_means_nothing_is_refused_at_its_place(
    space: dict[str, Any], place: str, code: str
) -> None:
    assert refused(space=space)[-1] == (f"/space/{place}".rstrip("/"), code)


def test_all_of_a_circle_are_told() -> None:
    circle = {
        "head": HEAD | {"when": {"optimizer": "sgd"}},
        "optimizer": OPTIMIZER | {"when": {"head": "mlp"}},
        "momentum": MOMENTUM,
    }
    assert refused(space=circle) == [
        ("/space/head/when", "condition_in_a_circle"),
        ("/space/optimizer/when", "condition_in_a_circle"),
    ]


@pytest.mark.parametrize(
    ("point", "faults"),
    [
        ({"optimizer": "sgd", "momentum": 0.9}, []),
        ({"optimizer": "adamw"}, []),
        ({"optimizer": "adamw", "momentum": 0.9}, ["momentum"]),
        # Who leaves the optimizer open cannot say that there is momentum.
        ({"momentum": 0.9}, ["momentum"]),
        ({"head": "mlp", "optimizer": "sgd", "head_width": 8}, ["head", "head_width"]),
    ],
)
def test_first_trials_give_no_value_that_has_no_use(
    point: dict[str, Scalar], faults: list[str]
) -> None:
    if not faults:
        assert a_study_document(space=SPACE, first_trials=[point]).first_trials == (point,)
        return
    assert refused(space=SPACE, first_trials=[point]) == [
        (f"/first_trials/0/{name}", "inactive") for name in faults
    ]


def test_a_condition_is_told_in_words() -> None:
    found = dict(rules().faults({"momentum": 0.9, "head_width": 8}))
    assert found["momentum"] == (
        "is active only with optimizer: sgd or muon: give that too, or leave it out"
    )
    assert "head: mlp, optimizer: sgd, frozen_stages: 2" in found["head_width"]
