"""Study documents: what is refused, where it is said to be, and the recipe that comes of the rest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import sampled_from, text
from pydantic import ValidationError

from tests.support.documents import a_document, a_study_document
from trimtab.contract.faults import faults
from trimtab.contract.hyperparameters import hyperparameters
from trimtab.contract.studies import StudyDocument

A_RANGE = {"kind": "float", "low": 0.0, "high": 1.0}


def places(document: dict[str, Any]) -> dict[str, str]:
    """Pointer and message of every fault."""
    try:
        StudyDocument.model_validate(document)
    except ValidationError as error:
        return {
            fault.pointer: fault.message
            for fault in faults(StudyDocument, document, error.errors(include_url=False))
        }
    return {}


def test_a_document_survives_its_own_json() -> None:
    document = a_study_document()
    assert StudyDocument.model_validate_json(document.model_dump_json()) == document


def test_a_recipe_is_the_fixed_values_and_the_sampled_ones() -> None:
    recipe = a_study_document(fixed={"epochs": 3, "momentum": 0.5}).recipe(
        {"learning_rate": 0.25, "batch_size": 64}
    )
    assert (recipe.epochs, recipe.momentum) == (3, 0.5)
    assert (recipe.learning_rate, recipe.batch_size) == (0.25, 64)
    assert recipe.optimizer == hyperparameters()["optimizer"].default


@given(sampled_from(sorted(hyperparameters())))
def test_every_hyperparameter_of_a_recipe_may_be_fixed_to_its_default(name: str) -> None:
    default = hyperparameters()[name].default
    document = a_document(
        space={"weight_decay": A_RANGE}
        if name != "weight_decay"
        else {"momentum": {**A_RANGE, "high": 0.5}},
        fixed={name: default},
    )
    assert places(document) == {}


@given(text(max_size=20).filter(lambda name: name not in hyperparameters()))
def test_no_other_name_is_taken(name: str) -> None:
    document = a_document(space={"weight_decay": A_RANGE, name: A_RANGE})
    (message,) = places(document).values()
    assert message.startswith("no worker understands this hyperparameter")


@pytest.mark.parametrize(
    ("changes", "pointer", "said"),
    [
        (
            {"space": {"weight_dcay": A_RANGE}},
            "/space/weight_dcay",
            "did you mean 'weight_decay'?",
        ),
        ({"fixed": {"epoch": 3}}, "/fixed/epoch", "did you mean 'epochs'?"),
        ({"fixed": {"qqq": 3}}, "/fixed/qqq", "known here: "),
        ({"fixed": {"batch_size": 3}}, "/fixed/batch_size", "stands in `space` as well"),
        ({"fixed": {"epochs": 0}}, "/fixed/epochs", "greater than or equal to 1"),
        ({"fixed": {"layer_decay": 0.0}}, "/fixed/layer_decay", "greater than 0"),
        ({"fixed": {"step_factor": 1.0}}, "/fixed/step_factor", "less than 1"),
        ({"fixed": {"lora_rank": 0.5}}, "/fixed/lora_rank", "integer"),
        ({"fixed": {"precision": "fp8"}}, "/fixed/precision", "'bfloat16'"),
        ({"space": {"batch_size": A_RANGE}}, "/space/batch_size", "takes no real number"),
        ({"space": {"momentum": A_RANGE}}, "/space/momentum", "float >= 0 and < 1"),
        (
            {"space": {"optimizer": {"kind": "choices", "choices": ["sdg"]}}},
            "/space/optimizer",
            "one of sgd, adam, adamw, muon",
        ),
        (
            {"search": {"sampler": "grid"}},
            "/space/learning_rate",
            "a grid needs a step or choices",
        ),
        ({"space": {}}, "/space", "1 to 200"),
        ({"name": "A"}, "/name", "lower-case letters"),
        ({"name": "My Flowers!"}, "/name", "such as my-flowers"),
        ({"name": "x" * 64}, "/name", "a name has 1 to 63"),
        ({"name": "-x"}, "/name", "begins and ends with a letter or digit"),
    ],
)
def test_a_fault_is_told_at_its_place(changes: dict[str, Any], pointer: str, said: str) -> None:
    told = places(a_document(**changes))
    assert list(told) == [pointer]
    assert said in told[pointer]


def test_a_grid_of_single_values_steps_and_choices_has_an_end() -> None:
    space = {
        "weight_decay": {"kind": "float", "low": 0.5, "high": 0.5},
        "momentum": {"kind": "float", "low": 0.0, "high": 0.5, "step": 0.25},
        "batch_size": {"kind": "int", "low": 1, "high": 64},
        "optimizer": {"kind": "choices", "choices": ["sgd", "adam"]},
    }
    assert places(a_document(space=space, search={"sampler": "grid"})) == {}


@pytest.mark.parametrize("name", ["a", "0", "a-b.c_d", "a" * 63])
def test_a_name_is_short_and_plain(name: str) -> None:
    assert places(a_document(name=name)) == {}


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "a" * 64, "a b", "A", "a\n", "ä", "..", "a/b"]
)
def test_another_name_is_refused(name: str) -> None:
    assert list(places(a_document(name=name))) == ["/name"]


def test_one_document_among_others_is_pointed_into_from_the_outside() -> None:
    errors = None
    try:
        StudyDocument.model_validate_json(json.dumps(a_document(space={"a/b~c": A_RANGE})))
    except ValidationError as error:
        errors = error.errors(include_url=False)
    assert errors is not None
    (fault,) = faults(StudyDocument, a_document(space={"a/b~c": A_RANGE}), errors)
    assert fault.pointer == "/space/a~1b~0c"


def test_a_teacher_is_a_study_or_an_exported_model() -> None:
    for teacher in (
        {"kind": "study", "name": "large"},
        {"kind": "file", "path": "/m.safetensors"},
    ):
        assert places(a_document(teacher=teacher)) == {}
    assert a_study_document().teacher is None
    csv = {"kind": "csv", "path": "/a.csv", "targets": ["age"]}
    task = {"kind": "regression", "dataset": csv}
    assert (
        "only a classification"
        in places(a_document(task=task, teacher={"kind": "study", "name": "large"}))["/teacher"]
    )
    (message,) = places(a_document(teacher={"kind": "file", "path": "m.pt"})).values()
    assert "ends in .safetensors" in message


def test_all_faults_of_a_document_are_told_at_once() -> None:
    document = a_document(
        name="My Flowers",
        space={
            "weight_dcay": A_RANGE,
            "momentum": A_RANGE,
            "learning_rate": {"kind": "float", "low": 1.0},
        },
        fixed={"epochs": 0, "momentum": 0.5},
        search={"sampler": "grid", "seed": -1},
        teacher={"kind": "study", "name": "Big"},
    )
    document["task"] = {"kind": "regression"}
    told = places(document)
    assert list(told)[:2] == ["/name", "/task/dataset"]
    assert {
        "/space/learning_rate/high": "Field required",
        "/fixed/epochs": "Input should be greater than or equal to 1",
        "/fixed/momentum": "stands in `space` as well",
        "/search/seed": "Input should be greater than or equal to 0",
        "/teacher": "only a classification learns from a teacher, and this is a regression",
    }.items() <= told.items()
    assert told["/space/weight_dcay"].startswith("no worker understands this hyperparameter")
    assert "holds values outside what is legal" in told["/space/momentum"]


def test_what_is_no_object_at_all_is_refused_for_that_alone() -> None:
    assert list(places(a_document(space=[1], fixed="no", search=None))) == [
        "/space",
        "/fixed",
        "/search",
    ]


def test_refits_that_leave_no_epoch_of_the_budget_are_told_at_their_place() -> None:
    given = a_document(budget={"trials": 9, "epochs": 8}, finish={"ensemble": 2})
    assert places(given) == {
        "/budget/epochs": "leaves no epoch for the search: 2 refits take 4 each, and the budget has 8"
    }
    document = StudyDocument.model_validate({**given, "budget": {"trials": 9, "epochs": 9}})
    assert document.search_budget.epochs == 1


def test_the_search_has_what_the_refits_leave_of_each_limit() -> None:
    budget = {"trials": 10, "epochs": 50, "device_seconds": 100, "target_value": 0.9}
    document = a_study_document(budget=budget, finish={"ensemble": 2})
    assert document.search_budget.limits == {
        "epochs": 42,
        "device_seconds": 80,
        "target_value": 0.9,
    }


def test_seeds_without_refits_are_refused_in_words() -> None:
    given = a_document(finish={"refit": False, "seeds": 2})
    assert places(given) == {
        "/finish/seeds": "2 seeds are of refits: give `refit: true` beside them, or leave them out"
    }


def test_refits_of_none_or_of_more_than_are_averaged_are_refused_in_words() -> None:
    none = a_document(budget={"trials": 9}, finish={"refit": False, "ensemble": 2, "refits": 1})
    assert places(none) == {
        "/finish/refits": "1 are asked for: give `refit: true` beside them, or leave them out"
    }
    more = a_document(budget={"trials": 9}, finish={"ensemble": 2, "refits": 3})
    assert places(more) == {
        "/finish/refits": "3 of 2 trials: give `ensemble: 3` or more, or fewer refits"
    }


def test_each_seed_of_a_refit_is_paid() -> None:
    finish = {"ensemble": 2, "seeds": 2}
    document = a_study_document(budget={"trials": 10, "epochs": 50}, finish=finish)
    assert (document.search_budget.trials, document.search_budget.epochs) == (6, 34)
    document = a_study_document(
        budget={"trials": 10, "epochs": 50}, finish={**finish, "refits": 1}
    )
    assert (document.search_budget.trials, document.search_budget.epochs) == (8, 42)


@pytest.mark.parametrize(
    ("epochs", "most"),
    [
        ({"kind": "int", "low": 2, "high": 9}, 9),
        ({"kind": "choices", "choices": [3, 7, 5]}, 7),
    ],
)
def test_where_epochs_are_searched_a_trial_is_reckoned_with_the_most(
    epochs: dict[str, Any], most: int
) -> None:
    document = a_study_document(space={"epochs": epochs}, fixed={})
    assert document.epochs == most


@pytest.mark.parametrize(
    ("dataset", "backbone", "told"),
    [
        ({"kind": "builtin", "name": "digits"}, "bert", "reads texts, and `task.dataset` has"),
        (
            {"kind": "csv", "path": "t.csv", "text": "a", "targets": ["b"]},
            "glyphnet",
            "sees pictures, and `task.dataset` has texts",
        ),
        ({"kind": "csv", "path": "t.csv", "text": "a", "targets": ["b"]}, "bert", None),
        ({"kind": "csv", "path": "t.csv", "targets": ["b"]}, "glyphnet", None),
    ],
)
def test_a_model_that_reads_other_samples_than_the_data_set_has_is_refused(
    dataset: dict[str, str], backbone: str, told: str | None
) -> None:
    document = a_document(
        task={"kind": "classification", "dataset": dataset},
        model={"backbone": backbone, "weights": "/w/model.d"},
    )
    if told is None:
        StudyDocument.model_validate(document)
    else:
        with pytest.raises(ValidationError, match=told):
            StudyDocument.model_validate(document)
