"""Small data sets for tests: pictures on disk, and splits in memory."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from trimtab.contract.tasks import ImageFolderDataset, Task
from worker.data import Split, TaskData


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


def folder_task(root: Path, *, validation: float = 0.2, test: float = 0.2) -> Task:
    """The task of a folder."""
    dataset = ImageFolderDataset(kind="image_folder", path=str(root))
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
        split_seed=0,
        counts={"train": train, "validation": validation, "test": 0},
    )
