"""Small data sets for tests: pictures on disk, and splits in memory."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trimtab.contract.datasets import CsvDataset, ImageFolderDataset
from trimtab.contract.metrics import METRICS, TaskKind, direction_of
from trimtab.contract.tasks import Task
from worker.data import Split, TaskData
from worker.data.targets import Target


def picture(
    seed: int = 0, *, size: tuple[int, int] = (12, 12), mode: str = "RGB"
) -> Image.Image:
    """A picture of noise; `size` is width and height."""
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels, mode=None)


def write_classes(root: Path, counts: Mapping[str, int], *, mode: str = "RGB") -> None:
    """Write a folder for each class, with so many different pictures."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            seed = hash_of(f"{root.name}/{name}/{number}")
            picture(seed, mode=mode).save(root / name / f"{number:03}.png")


def hash_of(text: str) -> int:
    """The same number for the same text in every process."""
    return sum(ord(character) * 31**position for position, character in enumerate(text)) % 2**32


def folder_task(
    root: Path, *, validation: float = 0.2, test: float = 0.2, group: str | None = None
) -> Task:
    """The task of a folder."""
    dataset = ImageFolderDataset(kind="image_folder", path=str(root), group=group)
    return Task(kind="classification", dataset=dataset, validation=validation, test=test)


def tiny_data(
    *, train: int = 22, validation: int = 9, classes: int = 3, side: int = 8, channels: int = 1
) -> TaskData:
    """Pictures that can be told apart: each class has its own bright corner, under noise."""
    random = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = np.arange(count, dtype=np.int64) % classes
        images = random.integers(0, 120, (count, side, side, channels), dtype=np.uint8)
        for row, label in enumerate(labels):
            top, left = divmod(int(label), 2)
            images[row, top * 4 : top * 4 + 4, left * 4 : left * 4 + 4] += 120
        return Split(images, labels)

    return TaskData(
        train=split(train),
        validation=split(validation),
        classes=tuple("abcdefgh"[:classes]),
        sha256="0" * 64,
        counts={"train": train, "validation": validation, "test": 0},
    )


SPECIES = Target("species", "classification", ("a", "b", "c"), weight=2.0)
SIZE = Target("size", "regression", mean=200.0, std=10.0)
LARGE = Target("large", "binary")
SMALL = Target("small", "binary", weight=3.0)
TARGETS: Mapping[TaskKind, tuple[Target, ...]] = {
    "regression": (SIZE,),
    "multi_label": (LARGE, SMALL),
    "multi_task": (SPECIES, SIZE, LARGE),
}


def tiny_columns(kind: TaskKind, *, metric: str | None = None) -> TaskData:
    """The same pictures with other things to learn of them; every seventh label is not known."""
    data = tiny_data()
    metric = metric or METRICS[kind][0]

    def split(part: Split) -> Split:
        columns = [_column(target, part.labels.astype(np.float64)) for target in TARGETS[kind]]
        labels = np.stack(columns, axis=1)
        labels.flat[3::7] = np.nan
        return Split(part.inputs, labels)

    return replace(
        data,
        train=split(data.train),
        validation=split(data.validation),
        classes=(),
        kind=kind,
        targets=TARGETS[kind],
        metric=metric,
        direction=direction_of(metric),
    )


def _column(target: Target, classes: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    match target.name:
        case "species":
            return classes
        case "size":
            return 190 + 10 * classes
        case "large":
            return (classes > 1).astype(np.float64)
        case _:
            return (classes < 1).astype(np.float64)


def write_table(folder: Path, lines: list[str], *, pictures: int = 0) -> Path:
    """Write `table.csv`, and beside it `0.png`, `1.png` and so on, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(pictures):
        picture(number, mode="L", size=(8, 8)).save(folder / f"{number}.png")
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def table_task(path: Path, kind: TaskKind, targets: list[Any], **changes: Any) -> Task:
    """The task of a table."""
    dataset = CsvDataset.model_validate(
        {
            "kind": "csv",
            "path": str(path),
            "targets": targets,
            **{
                name: changes.pop(name)
                for name in ("image", "split", "group")
                if name in changes
            },
        }
    )
    return Task.model_validate({"kind": kind, "dataset": dataset, **changes})
