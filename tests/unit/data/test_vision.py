"""Public data sets by name, read from small files in torchvision's own formats by torchvision's own classes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args
from urllib.error import URLError

import numpy as np
import pytest
from torchvision import datasets

from tests.support import vision_files
from tests.support.vision_files import PER_CLASS
from trimtab.contract.datasets import TorchvisionDataset
from trimtab.contract.tasks import Task
from worker import data
from worker.data import Seal
from worker.data.errors import DatasetAbsent

ROOT = Path(__file__).parents[3]
NAMES: tuple[str, ...] = get_args(TorchvisionDataset.model_fields["name"].annotation)
CLASSES = {"MNIST": 10, "FashionMNIST": 10, "KMNIST": 10, "Flowers102": 102}
"""Of those that do not have two in the small files."""
WITH_VALIDATION = ("DTD", "FGVCAircraft", "Flowers102")


def _task(name: str, root: Path) -> Task:
    dataset = {"kind": "torchvision", "name": name, "root": str(root)}
    return Task.model_validate({"kind": "classification", "dataset": dataset})


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_read_with_its_published_splits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision_files.write(name, tmp_path / "root", monkeypatch)
    task = _task(name, tmp_path / "root")
    loaded = data.load(task, cache_dir=tmp_path / "cache")
    sealed = data.open_test(task, Seal("final"), cache_dir=tmp_path / "cache")
    classes = CLASSES.get(name, 2)
    one = classes if name == "Flowers102" else classes * PER_CLASS
    match name:
        case "EuroSAT":  # publishes none
            assert loaded.counts == {"train": 18, "validation": 6, "test": 6}
            assert loaded.notes == ()
        case _ if name in WITH_VALIDATION:
            assert loaded.counts == {"train": one, "validation": one, "test": one}
            assert loaded.notes == ()
        case _:
            train = one * (5 if name == "CIFAR10" else 1)  # in five files
            assert loaded.counts["train"] + loaded.counts["validation"] == train
            assert loaded.counts["test"] == one
            assert "brings no validation split" in loaded.notes[0]
    assert len(loaded.classes) == (
        102 if name == "Flowers102" else 10 if "MNIST" in name else 2
    )
    assert set(np.unique(sealed.labels)) == set(range(classes))
    assert loaded.train.inputs.shape[3] == (1 if "MNIST" in name else 3)
    assert loaded.duplicates.copies == 0


def test_the_pictures_are_those_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision_files.write("MNIST", tmp_path, monkeypatch)
    task = _task("MNIST", tmp_path)
    sealed = data.open_test(task, Seal("final"), cache_dir=tmp_path / "cache")
    original: Any = datasets.MNIST(str(tmp_path), train=False)
    assert np.array_equal(sealed.inputs[..., 0], original.data.numpy())
    assert sealed.labels.tolist() == original.targets.tolist()


def test_a_filled_cache_does_without_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision_files.write("MNIST", tmp_path, monkeypatch)
    data.load(_task("MNIST", tmp_path), cache_dir=tmp_path / "cache")
    script = (
        "import sys; from pathlib import Path; from worker import data; "
        "from trimtab.contract.tasks import Task; "
        "task = Task.model_validate_json(sys.argv[1]); "
        "loaded = data.load(task, cache_dir=Path(sys.argv[2])); "
        "print(loaded.counts['train'], 'torchvision' in sys.modules)"
    )
    task = _task("MNIST", tmp_path).model_dump_json()
    argv = [sys.executable, "-c", script, task, str(tmp_path / "cache")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["40", "False"]


def test_changed_files_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vision_files.write("MNIST", tmp_path, monkeypatch)
    before = data.load(_task("MNIST", tmp_path), cache_dir=tmp_path / "cache")
    labels = tmp_path / "MNIST/raw/train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:8] + bytes([*range(9, -1, -1)] * PER_CLASS))
    os.utime(labels, ns=(1, 1))
    after = data.load(_task("MNIST", tmp_path), cache_dir=tmp_path / "cache")
    assert after.sha256 != before.sha256


def test_what_is_not_there_is_named_with_what_to_fetch_and_where_to_put_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(DatasetAbsent) as caught:
        data.load(_task("SVHN", tmp_path / "nowhere"), cache_dir=tmp_path / "cache")
    assert caught.value.kind == "data_missing"
    words = str(caught.value)
    assert f"SVHN is not under {tmp_path / 'nowhere'}" in words
    assert "SVHN('.', split='train', download=True)" in words
    assert "put train_32x32.mat and test_32x32.mat into" in words


def test_a_network_out_of_reach_is_told_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(DatasetAbsent, match="no route"):
        data.load(
            _task("CIFAR10", tmp_path / "root"), cache_dir=tmp_path / "cache", download=True
        )


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_a_pickle_that_is_not_the_published_one_is_never_opened(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision_files.write(name, tmp_path, monkeypatch)
    kind: Any = getattr(datasets, name)
    trap = tmp_path / "sprung"
    evil = b"cos\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR."
    (tmp_path / kind.base_folder / kind.test_list[0][0]).write_bytes(evil)
    with pytest.raises(DatasetAbsent, match="corrupted"):
        data.load(_task(name, tmp_path), cache_dir=tmp_path / "cache")
    assert not trap.exists()
