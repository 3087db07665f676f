"""What the service writes into a new study's document: recipes that are known to be good."""

from typing import Any

import pytest

from service.use_cases.settling import projected, with_known_recipes, with_tpe_startup_trials
from tests.support.documents import a_study_document
from trimtab.contract.finish import Finish
from trimtab.contract.search_space import Choices, FloatRange
from trimtab.contract.studies import StudyDocument

RATE = {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}
BATCH = {"kind": "choices", "choices": [16, 32]}
SGD = {"epochs": 8, "optimizer": "sgd"}
KNOWN = {"known_recipes": True, "initial_trials": 10}


def settled(**changes: Any) -> StudyDocument:
    given = {"space": {"learning_rate": RATE}, "search": KNOWN, "budget": {"trials": 12}}
    return with_known_recipes(a_study_document(**(given | changes)))


def rates(document: StudyDocument) -> list[tuple[str, Any]]:
    assert document.starts is not None
    return [
        (one.proposed_by.partition(":")[2], one.values["learning_rate"])
        for one in document.starts
    ]


def test_the_best_known_recipe_fills_in_what_the_document_leaves_open() -> None:
    document = settled()
    added = {
        "optimizer": "adamw",
        "schedule": "cosine",
        "warmup_share": 0.1,
        "head_factor": 1.0,
        "label_smoothing": 0.1,
    }
    assert document.fixed == {"epochs": 4, **added}
    assert set(document.completed) == set(added)
    recipe = document.recipe({"learning_rate": 0.02})
    assert (recipe.learning_rate, recipe.warmup_share, recipe.epochs) == (0.02, 0.1, 4)


def test_what_the_document_says_stays() -> None:
    document = settled(fixed={"schedule": "linear", "label_smoothing": 0.0})
    assert document.fixed["schedule"] == "linear"
    assert document.fixed["label_smoothing"] == 0.0
    assert "schedule" not in document.completed


def test_what_nothing_would_read_is_not_filled_in() -> None:
    document = settled(fixed={"head_learning_rate": 0.1, "warmup_epochs": 1.0})
    assert not {"head_factor", "warmup_share"} & set(document.fixed)


def test_a_rate_that_is_not_searched_is_the_kinds_own() -> None:
    batch = {"batch_size": {"kind": "choices", "choices": [16, 32]}}
    for backbone, fixed, rate in (
        ("glyphnet", {}, 3e-3),
        ("glyphnet", SGD, 3e-2),
        ("resnet18", {}, 2.5e-4),
        ("vit_b_16", {}, 7.5e-5),
    ):
        document = settled(space=batch, fixed=fixed, model={"backbone": backbone})
        assert document.fixed["learning_rate"] == pytest.approx(rate)


def test_labels_of_numbers_are_not_smoothed() -> None:
    dataset = {"kind": "csv", "path": "/data/a.csv", "targets": ["age"]}
    document = settled(task={"kind": "regression", "dataset": dataset})
    assert "label_smoothing" not in document.fixed


@pytest.mark.parametrize(
    ("backbone", "fixed", "found"),
    [
        ("glyphnet", {}, [("warm_cosine", 3e-3), ("fast_head", 1e-3)]),
        ("resnet18", {}, [("fast_head", 2.5e-4), ("warm_cosine", 7.5e-4), ("plain", 1e-3)]),
        ("cifar_resnet20", SGD, [("warm_cosine", 3e-2), ("fast_head", 1e-2)]),
        ("vit_b_16", {}, [("warm_cosine", 7.5e-5), ("fast_head", 2.5e-5), ("plain", 1e-4)]),
    ],
)
def test_the_known_recipes_come_first_each_point_once_the_best_of_the_kind_before(
    backbone: str, fixed: dict[str, Any], found: list[tuple[str, float]]
) -> None:
    # Of a small network the plain recipe has the rate of the one with the fast head: one point in this space.
    assert rates(settled(model={"backbone": backbone}, fixed=fixed)) == found


@pytest.mark.parametrize(("trials", "count"), [(1, 1), (5, 1), (6, 2), (9, 3), (100, 3)])
def test_they_take_a_third_of_the_searchs_trials_and_one_at_least(
    trials: int, count: int
) -> None:
    document = settled(model={"backbone": "resnet18"}, budget={"trials": trials})
    assert len(rates(document)) == count
    refits = Finish(refit=True, ensemble=3)
    document = settled(
        model={"backbone": "resnet18"}, budget={"trials": 9}, finish=refits.model_dump()
    )
    assert len(rates(document)) == 2


def test_a_point_that_a_person_names_is_not_tried_twice() -> None:
    document = settled(first_trials=[{"learning_rate": 3e-3}])
    assert rates(document) == [("fast_head", 1e-3)]


def test_a_recipe_comes_to_the_nearest_point_of_the_space() -> None:
    space = {
        "learning_rate": FloatRange(kind="float", low=1e-4, high=1e-3, log=True),
        "schedule": Choices(kind="choices", choices=("linear", "step"), prior="step"),
        "batch_size": Choices(kind="choices", choices=(64, 128)),
        "weight_decay": FloatRange(kind="float", low=0.0, high=1.0),
    }
    assert projected(space, {"learning_rate": 3e-3, "schedule": "cosine"}) == {
        "learning_rate": 1e-3,
        "schedule": "step",
        "batch_size": 64,
        "weight_decay": 1e-4,
    }


def test_whoever_turns_it_off_gets_the_document_as_it_was() -> None:
    search = {"known_recipes": False}
    document = settled(search=search)
    assert document.fixed == {"epochs": 4}
    assert (document.completed, document.starts) == ((), ())


def test_a_grid_has_the_best_recipe_around_it_and_no_points_to_begin_with() -> None:
    document = settled(
        space={"batch_size": {"kind": "choices", "choices": [16, 32]}},
        search={"sampler": "grid", "known_recipes": True},
    )
    assert document.starts == ()
    assert document.fixed["label_smoothing"] == 0.1


def test_a_document_that_was_filled_in_stays_as_it_is() -> None:
    for document in (
        settled(),
        settled(space="auto"),
        settled(search={"known_recipes": False}),
    ):
        told = StudyDocument.model_validate_json(document.model_dump_json())
        assert told == document
        assert with_known_recipes(told) == document


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (KNOWN, 5),
        (KNOWN | {"tpe_startup_trials": 7}, 7),
        ({"initial_trials": 0, "known_recipes": False}, 10),
        (KNOWN | {"sampler": "random"}, None),
    ],
)
def test_tpe_waits_for_fewer_trials_where_those_spread_by_themselves(
    search: dict[str, Any], expected: int | None
) -> None:
    document = with_tpe_startup_trials(settled(search=search))
    assert document.search.tpe_startup_trials == expected
    told = StudyDocument.model_validate_json(document.model_dump_json())
    assert with_tpe_startup_trials(told) == told == document


def test_each_of_several_models_begins_with_the_best_recipe_of_its_kind() -> None:
    models = {"small": {"backbone": "glyphnet"}, "deep": {"backbone": "vit_b_16"}}
    document = settled(model={"choices": models})
    starts = [
        (one.values["model"], one.proposed_by.partition(":")[2], one.values["learning_rate"])
        for one in document.starts or ()
    ]
    assert starts == [
        ("small", "warm_cosine", 3e-3),
        ("deep", "warm_cosine", 7.5e-5),
        ("small", "fast_head", 1e-3),
        ("deep", "fast_head", 2.5e-5),
    ]
    few = settled(model={"choices": models}, budget={"trials": 4})
    assert [one.values["model"] for one in few.starts or ()] == ["small", "deep"]


def test_what_the_best_recipes_of_several_models_say_alike_is_filled_in() -> None:
    models = {"small": {"backbone": "glyphnet"}, "big": {"backbone": "resnet18"}}
    document = settled(model={"choices": models}, space={"batch_size": BATCH})
    # The one takes a cosine and the other a constant rate, each its own; both leave the optimizer alike.
    assert document.fixed == {"epochs": 4, "optimizer": "adamw"}
    alike = settled(
        model={"choices": {**models, "big": {"backbone": "cifar_resnet20"}}},
        space={"batch_size": BATCH},
    )
    assert alike.fixed["learning_rate"] == 3e-3
