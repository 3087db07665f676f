"""Several models in a document, of which each trial has one."""

from typing import Any

import pytest

from tests.support.documents import a_document, a_study_document
from tests.unit.contract.test_starts import refused
from trimtab.contract.search_space import Choices, FloatRange
from trimtab.contract.studies import StudyDocument
from trimtab.contract.tasks import Model

SMALL = {"backbone": "glyphnet"}
BIG = {"backbone": "resnet50", "weights": "big.safetensors"}
DEEP = {"backbone": "vit_b_16"}
SCRATCH = {"backbone": "glyphnet", "weights": "none"}
RATE = {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True}
SPACE: dict[str, Any] = {"learning_rate": RATE}
FOLDER = {"kind": "classification", "dataset": {"kind": "image_folder", "path": "/data"}}


def models(space: Any = SPACE, **choices: Any) -> dict[str, Any]:
    return {"model": {"choices": choices}, "space": space}


def auto(**choices: Any) -> StudyDocument:
    return a_study_document(**models("auto", **choices), task=FOLDER)


def dimension(document: StudyDocument, name: str = "model") -> Choices:
    found = document.space[name]
    assert isinstance(found, Choices)
    return found


def test_the_space_has_a_dimension_of_the_models_and_each_trial_its_own() -> None:
    document = a_study_document(**models(small=SMALL, big=BIG))
    assert list(document.space) == ["model", "learning_rate"]
    assert dimension(document).choices == ("small", "big")
    values = {"model": "big", "learning_rate": 0.01}
    assert document.model_of(values) == Model.model_validate(BIG)
    assert document.model_of({"model": "small"}) == Model.model_validate(SMALL)
    # The model is no hyperparameter of the recipe.
    assert document.recipe(values).learning_rate == 0.01


def test_a_document_of_one_model_is_as_it_was() -> None:
    document = a_study_document(space=SPACE)
    assert "model" not in document.space
    assert document.model_of({}) == Model(backbone="glyphnet")
    assert document.model_dump(mode="json")["model"]["backbone"] == "glyphnet"


@pytest.mark.parametrize("one", [{"small": SMALL}, {"small": SMALL, "big": BIG}])
@pytest.mark.parametrize("space", [SPACE, "auto"])
def test_what_was_stored_is_read_again(one: Any, space: Any) -> None:
    document = a_study_document(**models(space, **one))
    assert dimension(document).choices == tuple(one)
    assert StudyDocument.model_validate_json(document.model_dump_json()) == document


def test_a_person_may_favour_one_and_set_conditions_on_it() -> None:
    own = {"kind": "choices", "choices": ["big", "small"], "prior": "big"}
    decay = {"kind": "choices", "choices": [0.7, 1.0], "when": {"model": "big"}}
    space = {"model": own, "layer_decay": decay, **SPACE}
    document = a_study_document(**models(space, small=SMALL, big=BIG))
    assert dimension(document).prior == "big"


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        (
            models({"model": {"kind": "choices", "choices": ["small"]}}, small=SMALL, big=BIG),
            [("/space/model", "other_models")],
        ),
        (models({"model": RATE}, small=SMALL, big=BIG), [("/space/model", "other_models")]),
        (
            {"space": {"model": {"kind": "choices", "choices": ["small"]}}},
            [("/space/model", "unknown_hyperparameter")],
        ),
        (
            {**models(small=SMALL, big=BIG), "fixed": {"model": "small"}},
            [("/fixed/model", "fixed_and_sampled")],
        ),
        (
            models(small={"backbone": "resnt18"}),
            [("/model/choices/small/backbone", "value_error")],
        ),
        (models(Small=SMALL), [("/model/choices/Small", "value_error")]),
        (models(), [("/model/choices", "too_short")]),
        (
            models(
                SPACE | {"momentum": RATE | {"when": {"model": "huge"}}}, small=SMALL, big=BIG
            ),
            [("/space/momentum/when/model", "condition_on_no_member")],
        ),
        ({"model": {"backbone": "resnt18"}}, [("/model/backbone", "value_error")]),
        ({"model": "glyphnet"}, [("/model", "model_type")]),
    ],
)
def test_models_that_cannot_be_are_refused_at_their_place(
    changes: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    assert refused(**changes) == faults


def test_auto_searches_for_each_model_what_matters_for_its_kind() -> None:
    document = auto(deep=DEEP, small=SMALL, scratch=SCRATCH)
    told = {name: dict(one.when or {}) for name, one in document.space.items()}
    assert told["layer_decay"] == {"model": ("deep",)}
    assert told["frozen_stages"] == told["head_factor"] == {"model": ("deep", "small")}
    assert told["learning_rate"] == told["schedule"] == told["model"] == {}
    rate = document.space["learning_rate"]
    assert isinstance(rate, FloatRange)
    # From the lowest of the transformer's to the highest of the others', with a centre between theirs.
    assert (rate.low, rate.high, rate.prior) == (2e-6, 3e-2, 3.16e-4)
    assert rate.prior_spread == pytest.approx(1.3, abs=0.01)


def test_auto_sets_no_condition_where_all_models_are_alike() -> None:
    document = auto(small=SMALL, deep={"backbone": "cifar_resnet20"})
    assert {name for name, one in document.space.items() if one.when} == set()
    one = a_study_document(space="auto", task=FOLDER).space["learning_rate"]
    assert document.space["learning_rate"] == one


def test_a_bare_document_of_several_models_is_auto() -> None:
    document = a_document(model={"choices": {"small": SMALL, "deep": DEEP}}, task=FOLDER)
    del document["space"]
    assert dimension(StudyDocument.model_validate(document)).choices == ("small", "deep")
