"""Small data sets in torchvision's own formats on disk."""

import csv
import hashlib
import importlib
import json
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from tests.support.pictures import picture

PER_CLASS = 5
"""Pictures of each class in each split; one of each of the 102 flowers."""


def write(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a data set below `root`; where torchvision knows an md5, it is made that of the small files."""
    _WRITERS[name](name, root, monkeypatch)


def _labels(classes: int = 2) -> list[int]:
    return [*range(classes)] * PER_CLASS


def _pixels(
    seed: int, classes: int = 2, side: int = 32, channels: int = 3
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    shape = (classes * PER_CLASS, side, side, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _cifar(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind: Any = getattr(datasets, name)
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    key = "labels" if name == "CIFAR10" else "fine_labels"

    def dump(file: str, content: dict[str, Any]) -> str:
        raw = pickle.dumps(content)
        (folder / file).write_bytes(raw)
        return hashlib.md5(raw).hexdigest()

    lists: dict[str, list[list[str]]] = {}
    for seed, listed in enumerate(("train_list", "test_list")):
        lists[listed] = []
        for number, (file, _) in enumerate(getattr(kind, listed)):
            data = _pixels(10 * seed + number).transpose(0, 3, 1, 2).reshape(-1, 3072)
            lists[listed].append([file, dump(file, {"data": data, key: _labels()})])
        monkeypatch.setattr(kind, listed, lists[listed])
    md5 = dump(kind.meta["filename"], {kind.meta["key"]: ["cat", "dog"]})
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5})


def _mnist(name: str, root: Path, _: pytest.MonkeyPatch) -> None:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for seed, part in enumerate(("train", "t10k")):
        pixels, labels = _pixels(seed, 10, 28, 1), np.array(_labels(10), dtype=np.uint8)
        header = struct.pack(">IIII", 0x803, len(pixels), 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = struct.pack(">II", 0x801, len(labels))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def _svhn(_: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat: Any = importlib.import_module("scipy.io").savemat

    root.mkdir(parents=True)
    listed = dict(datasets.SVHN.split_list)
    for seed, part in enumerate(("train", "test")):
        file = root / f"{part}_32x32.mat"
        labels = np.array([[label or 10] for label in _labels()], dtype=np.uint8)
        savemat(file, {"X": _pixels(seed).transpose(1, 2, 3, 0), "y": labels})
        listed[part] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)


def _flowers(_: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat: Any = importlib.import_module("scipy.io").savemat

    folder = root / "flowers-102"
    count = 3 * 102
    for number in range(1, count + 1):
        _save(folder / f"jpg/image_{number:05}.jpg")
    thirds = np.array_split(np.arange(1, count + 1), 3)
    savemat(folder / "setid.mat", dict(zip(("trnid", "valid", "tstid"), thirds, strict=True)))
    savemat(folder / "imagelabels.mat", {"labels": np.array([*range(1, 103)] * 3)})
    files: dict[str, tuple[str, str]] = dict(datasets.Flowers102._file_dict)  # pyright: ignore[reportPrivateUsage]
    for key in ("label", "setid"):
        name = files[key][0]
        files[key] = (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", files)


def _pets(_: str, root: Path, __: pytest.MonkeyPatch) -> None:
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    for part in ("trainval", "test"):
        lines: list[str] = []
        for number, label in enumerate(_labels()):
            image = f"{('cat', 'dog')[label]}_{part}{number}"
            _save(folder / f"images/{image}.jpg")
            lines.append(f"{image} {label + 1} {label + 1} 1\n")
        (folder / f"annotations/{part}.txt").write_text("".join(lines))


def _dtd(_: str, root: Path, __: pytest.MonkeyPatch) -> None:
    folder = root / "dtd/dtd"
    (folder / "labels").mkdir(parents=True)
    for part in ("train", "val", "test"):
        names = [
            f"{('dots', 'lines')[label]}/{part}{n}.jpg" for n, label in enumerate(_labels())
        ]
        (folder / f"labels/{part}1.txt").write_text("\n".join(names) + "\n")
        for name in names:
            _save(folder / "images" / name)


def _aircraft(_: str, root: Path, __: pytest.MonkeyPatch) -> None:
    folder = root / "fgvc-aircraft-2013b/data"
    folder.mkdir(parents=True)
    (folder / "variants.txt").write_text("707-320\nBAe 146\n")
    for part in ("train", "val", "test"):
        lines: list[str] = []
        for number, label in enumerate(_labels()):
            _save(folder / f"images/{part}{number}.jpg")
            lines.append(f"{part}{number} {('707-320', 'BAe 146')[label]}\n")
        (folder / f"images_variant_{part}.txt").write_text("".join(lines))


def _food(_: str, root: Path, __: pytest.MonkeyPatch) -> None:
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    for part in ("train", "test"):
        names = {
            dish: [f"{dish}/{part}{n}" for n in range(PER_CLASS)] for dish in ("pie", "soup")
        }
        (folder / f"meta/{part}.json").write_text(json.dumps(names))
        for image in (image for images in names.values() for image in images):
            _save(folder / f"images/{image}.jpg")


def _eurosat(_: str, root: Path, __: pytest.MonkeyPatch) -> None:
    for land in ("Forest", "River"):
        for number in range(3 * PER_CLASS):
            _save(root / f"eurosat/2750/{land}/{number}.jpg")


def _gtsrb(_: str, root: Path, __: pytest.MonkeyPatch) -> None:
    folder = root / "gtsrb"
    rows: list[dict[str, str]] = []
    for number, label in enumerate(_labels()):
        _save(folder / f"GTSRB/Training/{label:05}/{number}.ppm")
        _save(folder / f"GTSRB/Final_Test/Images/{number}.ppm")
        rows.append({"Filename": f"{number}.ppm", "ClassId": str(label)})
    with (folder / "GT-final_test.csv").open("w") as file:
        writer = csv.DictWriter(file, ["Filename", "ClassId"], delimiter=";")
        writer.writeheader()
        writer.writerows(rows)


def _save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int(hashlib.md5(str(path).encode()).hexdigest()[:8], 16)
    picture(seed, size=(12, 10)).save(path)


_WRITERS: Mapping[str, Callable[[str, Path, pytest.MonkeyPatch], None]] = {
    "CIFAR10": _cifar,
    "CIFAR100": _cifar,
    "DTD": _dtd,
    "EuroSAT": _eurosat,
    "FGVCAircraft": _aircraft,
    "FashionMNIST": _mnist,
    "Flowers102": _flowers,
    "Food101": _food,
    "GTSRB": _gtsrb,
    "KMNIST": _mnist,
    "MNIST": _mnist,
    "OxfordIIITPet": _pets,
    "SVHN": _svhn,
}
