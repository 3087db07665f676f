"""Photographs that never were: 256 px JPEGs of several classes, with structure that can be learned."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 256
CLASSES = 6
_QUALITY = 90
_BLOCK = 16
"""Noise of this grain, enlarged smoothly, gives the files the size of photographs."""


def make(root: Path, *, train: int, validation: int, test: int) -> Path:
    """Write `root/{train,val,test}/class_N/*.jpg` once; the counts are in the folder's name.

    Args:
        root: Where such folders are kept from run to run.
        train: Pictures in the training split, over all classes.
        validation: The same for validation.
        test: The same for the sealed split.
    """
    folder = root / f"pictures-{train}-{validation}-{test}"
    if folder.exists():
        return folder
    beside = root / f".{folder.name}"
    shutil.rmtree(beside, ignore_errors=True)
    random = np.random.default_rng(0)
    for part, count in {"train": train, "val": validation, "test": test}.items():
        for number in range(count):
            label = number % CLASSES
            path = beside / part / f"class_{label}" / f"{number:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_draw(label, random)).save(path, quality=_QUALITY)
    beside.rename(folder)
    return folder


def _draw(label: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Stripes whose direction is the class, of random colour, width and phase, in noise of several grains."""
    angle = np.pi * label / CLASSES + random.normal(0, 0.06)
    x = np.arange(SIDE)[None, :] / SIDE
    y = x.T
    waves = random.uniform(5, 9)
    wave = np.sin(
        2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(0, 6.3)
    )
    picture = random.uniform(60, 190, 3) + wave[:, :, None] * random.uniform(15, 50, 3)
    grain = random.normal(0, 45, (SIDE // _BLOCK, SIDE // _BLOCK, 3))
    picture += grain.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)
    picture += random.normal(0, 18, (SIDE, SIDE, 3))
    return picture.clip(0, 255).astype(np.uint8)
