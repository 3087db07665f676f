"""The space that `auto` stands for."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.support.documents import a_document, a_study_document
from trimtab.contract.faults import refusal
from trimtab.contract.hyperparameters import hyperparameters
from trimtab.contract.priors import family_of
from trimtab.contract.search_space import Choices, FloatRange
from trimtab.contract.studies import StudyDocument

FOLDER = {"kind": "classification", "dataset": {"kind": "image_folder", "path": "/data"}}
TABLE = {
    "kind": "regression",
    "dataset": {"kind": "csv", "path": "/data/a.csv", "targets": ["age"]},
}


def auto(**changes: Any) -> StudyDocument:
    return a_study_document(**({"space": "auto", "task": FOLDER} | changes))


def rate_of(document: StudyDocument) -> FloatRange:
    found = document.space["learning_rate"]
    assert isinstance(found, FloatRange)
    return found


def refused(**changes: Any) -> list[tuple[str, str, str]]:
    document = a_document(**({"space": "auto"} | changes))
    with pytest.raises(ValidationError) as raised:
        StudyDocument.model_validate(document)
    problem = refusal(StudyDocument, document, raised.value.errors(include_url=False))
    return [(fault.pointer, fault.code, fault.message) for fault in problem.errors]


def test_a_document_without_a_space_searches_the_same_as_auto() -> None:
    document = a_document(task=FOLDER)
    del document["space"]
    assert StudyDocument.model_validate(document) == auto()
    assert auto().auto_space
    assert not a_study_document().auto_space


def test_the_space_stands_in_the_document_and_stays_when_that_is_read_again() -> None:
    document = auto()
    assert StudyDocument.model_validate_json(document.model_dump_json()) == document
    assert StudyDocument.model_validate(document.model_dump(mode="json")) == document


@pytest.mark.parametrize(
    ("backbone", "optimizer", "centre"),
    [
        ("glyphnet", "adamw", 2e-3),
        ("cifar_resnet20", "adamw", 2e-3),
        ("cifar_resnet20", "sgd", 2e-2),
        ("resnet18", "adamw", 5e-4),
        ("resnet18", "sgd", 5e-3),
        ("vit_b_16", "adamw", 5e-5),
        ("convnext_tiny", "adamw", 5e-5),
    ],
)
def test_the_learning_rates_centre_is_that_of_the_kind_of_model_and_optimizer(
    backbone: str, optimizer: str, centre: float
) -> None:
    fixed = {"epochs": 8, "optimizer": optimizer}
    rate = rate_of(auto(model={"backbone": backbone}, fixed=fixed))
    assert rate.prior == pytest.approx(centre)
    assert rate.log
    assert rate.low < centre / 10
    assert rate.high > centre * 10


def test_a_small_convolution_net_gets_what_the_experiment_found() -> None:
    rate = rate_of(auto())
    assert (rate.low, rate.high, rate.prior, rate.prior_spread) == (1e-4, 3e-2, 2e-3, 0.4)
    assert auto().space["frozen_stages"] == Choices(kind="choices", choices=(0, 1, 2), prior=0)
    assert auto().fixed["warmup_share"] == 0.1


def test_a_network_from_random_weights_is_not_frozen_and_has_no_head_of_its_own() -> None:
    scratch = auto(model={"backbone": "resnet18", "weights": "none"}).space
    assert not {"frozen_stages", "head_factor"} & set(scratch)


@pytest.mark.parametrize("backbone", ["glyphnet", "resnet18", "vit_b_16"])
def test_it_is_small_and_each_of_its_values_is_legal(backbone: str) -> None:
    for task in (FOLDER, TABLE):
        space = auto(model={"backbone": backbone}, task=task).space
        assert len(space) <= 8
        assert set(space) <= set(hyperparameters())


def test_labels_are_smoothed_where_there_are_classes_alone() -> None:
    assert "label_smoothing" in auto().space
    assert "label_smoothing" not in auto(task=TABLE).space


@pytest.mark.parametrize(
    ("task", "epochs", "favoured"),
    [
        (FOLDER, 8, "none"),
        (FOLDER, 40, "none"),
        (
            {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}},
            40,
            None,
        ),
        (
            {
                "kind": "classification",
                "dataset": {"kind": "torchvision", "name": "MNIST", "root": "/d"},
            },
            40,
            None,
        ),
        (
            {
                "kind": "classification",
                "dataset": {"kind": "torchvision", "name": "CIFAR10", "root": "/d"},
            },
            8,
            "none",
        ),
        (
            {
                "kind": "classification",
                "dataset": {"kind": "torchvision", "name": "CIFAR10", "root": "/d"},
            },
            40,
            "flip_crop",
        ),
    ],
)
def test_pictures_are_changed_by_what_they_show_and_how_often_they_are_seen(
    task: Any, epochs: int, favoured: str | None
) -> None:
    space = auto(task=task, fixed={"epochs": epochs}).space
    found = space.get("augmentation")
    assert (found and found.prior) == favoured


def test_what_is_fixed_is_left_out() -> None:
    fixed = {"learning_rate": 1e-3, "head_learning_rate": 1e-2, "warmup_epochs": 1.0}
    document = auto(fixed=fixed)
    assert not {"learning_rate", "head_factor"} & set(document.space)
    assert document.fixed == fixed


def test_where_all_of_it_is_fixed_nothing_is_left_to_search() -> None:
    values = {
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "batch_size": 32,
        "frozen_stages": 0,
        "head_factor": 2.0,
        "label_smoothing": 0.0,
    }
    ((pointer, _, message),) = refused(fixed=values)
    assert pointer == "/space"
    assert "1 to 200" in message
    assert "stands in `fixed`" in message


def test_a_grid_needs_a_space_of_its_own() -> None:
    ((pointer, code, message),) = refused(search={"sampler": "grid"})
    assert (pointer, code) == ("/space", "auto_grid")
    assert "a space of your own" in message


def test_the_faults_of_the_rest_are_told_and_none_of_the_space() -> None:
    found = refused(model={"backbone": "resnet19"}, fixed={"epochs": 0})
    assert [pointer for pointer, _, _ in found] == ["/model/backbone", "/fixed/epochs"]


@pytest.mark.parametrize("space", [None, "Auto", ["auto"], 1])
def test_no_other_word_is_a_space(space: Any) -> None:
    ((pointer, _, message),) = refused(space=space)
    assert pointer == "/space"
    assert ("`auto`" in message) == isinstance(space, str)


@pytest.mark.parametrize(
    ("backbone", "family"),
    [
        ("timm:resnet10t.c3_in1k", "convnet"),
        ("timm:convnext_nano", "transformer"),
        ("timm:caformer_s18", "transformer"),
        ("timm:maxvit_tiny_tf_224", "transformer"),
        ("user:vit", "small_convnet"),
        ("resnet18", "convnet"),
        ("cifar_resnet20", "small_convnet"),
    ],
)
def test_learning_rates_are_those_of_the_kind_of_model(backbone: str, family: str) -> None:
    assert family_of(backbone, "default") == family
