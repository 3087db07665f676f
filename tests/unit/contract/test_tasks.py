"""The task and the model to begin with."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from trimtab.contract.backbones import TORCHVISION_BACKBONES
from trimtab.contract.datasets import (
    BuiltinDataset,
    CsvDataset,
    ImageFolderDataset,
    JsonlDataset,
    TargetColumn,
)
from trimtab.contract.metrics import METRICS, TARGET_METRICS, direction_of
from trimtab.contract.tasks import Model, Task


def test_a_task_reads_its_dataset_by_kind() -> None:
    digits = Task.model_validate(
        {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}}
    )
    assert digits.dataset == BuiltinDataset(kind="builtin", name="digits")
    assert (digits.validation, digits.test) == (0.2, 0.2)
    folder = Task.model_validate(
        {"kind": "classification", "dataset": {"kind": "image_folder", "path": "/data/birds"}}
    )
    assert folder.dataset == ImageFolderDataset(kind="image_folder", path="/data/birds")


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": {"kind": "builtin", "name": "letters"}},
        {"dataset": {"kind": "image_folder", "path": ""}},
        {"dataset": {"kind": "image_folder", "path": "/a\0b"}},
        {"dataset": {"kind": "csv", "path": "/a.csv"}},
        {"kind": "poetry"},
        {"validation": 0},
        {"test": 1},
        {"test": "0.2"},
        {"validation": 0.5, "test": 0.5},
        {"seed": 3},
    ],
)
def test_a_task_that_cannot_be_learned_is_refused(change: dict[str, object]) -> None:
    task = {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}}
    with pytest.raises(ValidationError):
        Task.model_validate({**task, **change})


def _table(kind: str, *targets: object, **changes: object) -> Task:
    dataset = {"kind": "csv", "path": "/a.csv", "targets": targets}
    columns = {name: changes.pop(name) for name in ("image", "split") if name in changes}
    return Task.model_validate({"kind": kind, "dataset": {**dataset, **columns}, **changes})


AGE = {"column": "age", "kind": "regression"}
SEX = {"column": "sex", "kind": "binary", "weight": 0.5}


@pytest.mark.parametrize(
    ("kind", "means"),
    [
        ("classification", "classification"),
        ("regression", "regression"),
        ("multi_label", "binary"),
    ],
)
def test_a_bare_column_takes_its_kind_from_the_task(kind: str, means: str) -> None:
    (target,) = _table(kind, "age").targets
    assert (target.column, target.kind, target.weight) == ("age", means, 1.0)


def test_the_targets_of_several_kinds_say_what_they_hold() -> None:
    assert _table("multi_task", AGE, SEX).targets == (
        TargetColumn(column="age", kind="regression"),
        TargetColumn(column="sex", kind="binary", weight=0.5),
    )


@pytest.mark.parametrize(
    ("kind", "targets", "why"),
    [
        ("classification", ["a", "b"], "one target; several make a multi_task"),
        ("regression", ["a", "b"], "one target; several make a multi_task"),
        ("regression", [SEX], "of kind regression, not binary"),
        ("multi_label", ["a", AGE], "of kind binary, not regression"),
        ("multi_task", [AGE], "two or more targets"),
        ("multi_task", [AGE, "sex"], "column: sex, kind: ..."),
        ("multi_label", ["a", "b", "a"], "named twice: a"),
        ("multi_label", ["image", "b"], "named twice: image"),
        ("multi_label", [], "at least 1 item"),
        ("multi_task", [AGE, {**SEX, "weight": 0}], "greater than 0"),
    ],
)
def test_targets_that_do_not_fit_their_task_are_refused(
    kind: str, targets: list[object], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        _table(kind, *targets)


def _texts(**columns: object) -> Task:
    dataset = {"kind": "csv", "path": "t.csv", "targets": ["label"], **columns}
    return Task.model_validate({"kind": "classification", "dataset": dataset})


def test_a_table_has_pictures_unless_it_has_texts_or_pairs_of_texts() -> None:
    assert (_texts().dataset.modality, _texts(text="a").dataset.modality) == ("image", "text")
    read = {
        "a": ("a", "label"),
        ("a", "b"): ("a", "b", "label"),
        None: ("image", "label"),
    }
    for text, columns in read.items():
        dataset = _texts(text=text).dataset
        assert isinstance(dataset, CsvDataset)
        assert dataset.columns == columns
    lines = {"kind": "jsonl", "path": "t.jsonl", "targets": ["label"], "text": ["a", "b"]}
    pairs = Task.model_validate({"kind": "classification", "dataset": lines}).dataset
    assert isinstance(pairs, JsonlDataset)
    assert (pairs.modality, pairs.texts) == ("text", ("a", "b"))


def test_a_table_of_an_older_document_still_names_its_pictures() -> None:
    assert _texts(image="image").dataset.modality == "image"


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"text": "a", "image": "b"}, "either pictures or texts"),
        ({"text": ["a", "a"]}, "named twice: a"),
        ({"text": "label"}, "named twice: label"),
        ({"text": ["a", "b", "c"]}, "text"),
        ({"text": ""}, "text"),
    ],
)
def test_columns_of_texts_that_cannot_be_meant_are_refused(
    columns: dict[str, object], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        _texts(**columns)


@pytest.mark.parametrize("kind", ["regression", "multi_label", "multi_task"])
def test_what_is_no_classification_needs_a_table(kind: str) -> None:
    task = {"kind": kind, "dataset": {"kind": "builtin", "name": "digits"}}
    with pytest.raises(ValidationError, match="needs a dataset of kind csv"):
        Task.model_validate(task)


@pytest.mark.parametrize(
    ("kind", "usual", "direction"),
    [
        ("classification", "accuracy", "maximize"),
        ("regression", "rmse", "minimize"),
        ("multi_label", "average_precision", "maximize"),
    ],
)
def test_the_direction_follows_from_the_metric(kind: str, usual: str, direction: str) -> None:
    task = _table(kind, "age")
    assert (task.metric, task.direction) == (usual, direction)
    assert _table(kind, "age", objective="loss").direction == "minimize"


def test_several_targets_are_compared_by_their_loss_or_by_a_metric_of_one() -> None:
    assert _table("multi_task", AGE, SEX).metric == "loss"
    for metric, direction in (("age.r2", "maximize"), ("age.mae", "minimize")):
        task = _table("multi_task", AGE, SEX, objective=metric)
        assert (task.metric, task.direction) == (metric, direction)


@pytest.mark.parametrize("objective", ["rmse", "sex.rmse", "age.accuracy", "age", "height.mae"])
def test_a_metric_that_the_task_has_not_is_refused_with_those_that_it_has(
    objective: str,
) -> None:
    with pytest.raises(ValidationError, match=r"one of loss, age\.rmse, age\.mae, age\.r2"):
        _table("multi_task", AGE, SEX, objective=objective)


def test_less_is_better_of_errors_and_losses_and_more_of_all_else() -> None:
    names = {
        name for found in (METRICS, TARGET_METRICS) for of in found.values() for name in of
    }
    lower = {name for name in names if direction_of(name) == "minimize"}
    assert lower == {"loss", "rmse", "mae"}


@pytest.mark.parametrize(
    "weights",
    [
        "default",
        "none",
        "/w/a.safetensors",
        "b.pth",
        "best.pth.tar",
        "c.ckpt",
        "d.bin",
        "./weights",
    ],
)
def test_a_model_takes_published_random_and_own_weights(weights: str) -> None:
    assert Model.model_validate({"backbone": "glyphnet", "weights": weights}).weights == weights


def test_a_models_weights_are_the_published_ones_unless_said_otherwise() -> None:
    assert Model.model_validate({"backbone": "resnet18"}).weights == "default"


@pytest.mark.parametrize("weights", ["", "imagenet", "IMAGENET1K_V2", "http://x/y.pth"])
def test_weights_that_no_worker_could_read_are_refused(weights: str) -> None:
    with pytest.raises(ValidationError, match="safetensors"):
        Model.model_validate({"backbone": "glyphnet", "weights": weights})


@pytest.mark.parametrize(
    ("typed", "meant"), [("glyphnt", "glyphnet"), ("resnet-18", "resnet18"), ("VGG16", "vgg16")]
)
def test_a_mistyped_backbone_is_refused_with_the_nearest_name(typed: str, meant: str) -> None:
    with pytest.raises(ValidationError, match=f"nearest is '{meant}'"):
        Model.model_validate({"backbone": typed})


@pytest.mark.parametrize("name", ["user:mbv2", "user:CifarResNet", "user:my.net-2"])
def test_a_backbone_may_be_the_workers_owners_own(name: str) -> None:
    assert Model(backbone=name, weights="none").backbone == name


@pytest.mark.parametrize(
    "name", ["user:", "user:a b", "user:../x.py", "user:import os", f"user:{'a' * 65}", "usr:a"]
)
def test_an_own_backbone_is_a_name_and_nothing_more(name: str) -> None:
    with pytest.raises(ValidationError):
        Model(backbone=name, weights="none")


def test_an_own_backbone_has_no_published_weights() -> None:
    with pytest.raises(ValidationError, match="set `weights` to a path, or to none"):
        Model(backbone="user:net")
    assert Model(backbone="cifar_resnet110").weights == "default"


def test_the_backbones_are_those_of_the_installed_torchvision() -> None:
    """In a process of its own: torchvision takes seconds to import and stays loaded."""
    script = "from torchvision import models; print(*models.list_models(module=models))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert tuple(done.stdout.split()) == TORCHVISION_BACKBONES


@pytest.mark.parametrize(
    "name", ["resnet10t", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "eva02"]
)
def test_a_name_of_timm_is_taken_for_its_form(name: str) -> None:
    assert Model(backbone=f"timm:{name}").backbone == f"timm:{name}"


@pytest.mark.parametrize(
    "name", ["", "ResNet10t", "hf-hub:timm/resnet10t", "../resnet10t", "a b"]
)
def test_what_cannot_be_a_name_of_timm_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"timm: goes before a name of timm's own models"):
        Model(backbone=f"timm:{name}")


def test_hf_and_a_folder_in_one_word_are_the_two_fields() -> None:
    model = Model.model_validate({"backbone": "hf:/models/deberta", "layers": 2})
    assert model == Model(backbone="hf", weights="/models/deberta", layers=2)
    assert model.model_dump()["weights"] == "/models/deberta"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"backbone": "hf"}, "hf takes its weights, its shape and its tokenizer from a folder"),
        ({"backbone": "hf", "weights": "none"}, "a name is not fetched from a hub"),
        ({"backbone": "hf:deberta-v3-base"}, "the path of a file on the workers"),
        ({"backbone": "hf:"}, "the path of a file on the workers"),
        (
            {"backbone": "hf:/a", "weights": "/b"},
            "names the folder already: leave `weights` out",
        ),
    ],
)
def test_an_encoder_of_transformers_without_its_folder_is_refused(
    model: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        Model.model_validate(model)
