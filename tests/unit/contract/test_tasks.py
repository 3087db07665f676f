"""The task and the model to begin with."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from trimtab.contract.backbones import TORCHVISION_BACKBONES
from trimtab.contract.tasks import BuiltinDataset, ImageFolderDataset, Model, Task


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


@pytest.mark.parametrize(
    "weights", ["default", "none", "/w/a.safetensors", "b.pth", "c.pt", "d.th"]
)
def test_a_model_takes_published_random_and_own_weights(weights: str) -> None:
    assert Model.model_validate({"backbone": "glyphnet", "weights": weights}).weights == weights


def test_a_models_weights_are_the_published_ones_unless_said_otherwise() -> None:
    assert Model.model_validate({"backbone": "resnet18"}).weights == "default"


@pytest.mark.parametrize("weights", ["", "imagenet", "model.pkl", "http://x/y"])
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
