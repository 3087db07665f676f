"""The tasks of `./run bench outcome`: small sets of pictures in folders, with a test folder that nobody trains on.

Each study draws its own training pictures where the data have enough of them; the test pictures of a task stay the same
unless its classes are drawn too. `more` holds further pictures of the same kind, for what a test set is an estimate of.
"""

import math
import random
import tarfile
import wave
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.support import lab
from worker.data.images.digits import Digits

Picture = Image.Image | Path
Labelled = Mapping[str, Sequence[Picture]]
"""Pictures by the name of their class."""

SIDE = 32
"""Pixels along a side of what resnet20 takes."""
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
WRONG_LABELS = 0.2
"""The share of the training labels of `cifar_6_noisy` that are wrong."""
SHAPES = ("triangle", "square", "pentagon", "hexagon", "star", "cross", "ring", "crescent")


@dataclass(frozen=True)
class Pictures:
    """What one study sees, and what its models are measured on."""

    train: Labelled
    test: Labelled
    more: Labelled


@dataclass(frozen=True)
class Job:
    """One pretrained network and one task.

    Attributes:
        draw: makes the pictures of a study from a folder of unpacked archives and the number of the study.
        archive: the archive of the lab that it needs unpacked; empty: none.
        chosen_on: whether constants of the product were chosen after seeing results on these data.
    """

    name: str
    draw: Callable[[Path, int], Pictures]
    archive: str = ""
    backbone: str = "cifar_resnet20"
    weights: str = "resnet20_cifar10.pt"
    side: int = SIDE
    epochs: int = 8
    chosen_on: bool = False

    @property
    def model(self) -> dict[str, str]:
        """What a study document says of the pretrained network."""
        weights = str(lab.FOLDER / self.weights) if self.weights else "default"
        return {"backbone": self.backbone, "weights": weights}


@dataclass(frozen=True)
class Laid:
    """The folders of a task as a person would have them: `train` and `test` of class folders in `data`; `more` beside."""

    data: Path
    more: Path


def lay(job: Job, folder: Path, study: int) -> Laid:
    """Write the pictures of a study below the folder.

    Raises:
        FileNotFoundError: the lab's data are not there.
    """
    if job.archive and not (folder / job.archive).exists():
        with tarfile.open(lab.FOLDER / f"{job.archive}.tar") as archive:
            archive.extractall(folder / job.archive, filter="data")
    laid = Laid(folder / f"{job.name}-{study}", folder / f"{job.name}-{study}-more")
    if not laid.data.exists():
        drawn = job.draw(folder / job.archive, study)
        for place, pictures in (
            (laid.data / "train", drawn.train),
            (laid.data / "test", drawn.test),
            (laid.more, drawn.more),
        ):
            _write(place, pictures)
    return laid


def _write(place: Path, pictures: Labelled) -> None:
    for name, those in pictures.items():
        # No published head knows these names: a network that had learned the very classes before would prove nothing.
        folder = place / f"kind_{name}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(those):
            if isinstance(one, Path):
                (folder / f"{number:04}{one.suffix}").write_bytes(one.read_bytes())
            else:
                one.save(folder / f"{number:04}.png")


def _folders(place: Path, names: Iterable[str] = ()) -> dict[str, list[Path]]:
    wanted = names or [one.name for one in place.iterdir()]
    return {name: sorted((place / name).iterdir()) for name in sorted(wanted)}


def _few(
    pool: Mapping[str, Sequence[Picture]], count: int, seed: int
) -> dict[str, list[Picture]]:
    rng = random.Random(seed)
    return {name: rng.sample(list(those), count) for name, those in pool.items()}


def _shuffled(pool: Mapping[str, Sequence[Picture]]) -> dict[str, list[Picture]]:
    """Mix pictures that lie in the order of their writers, so that those of a test are like the others."""
    rng = random.Random(0)
    return {name: rng.sample(list(those), len(those)) for name, those in pool.items()}


def _split(
    pool: Mapping[str, Sequence[Picture]], count: int
) -> tuple[dict[str, list[Picture]], dict[str, list[Picture]]]:
    first = {name: list(those[:count]) for name, those in pool.items()}
    return first, {name: list(those[count:]) for name, those in pool.items()}


def _ants_bees(archive: Path, study: int) -> Pictures:
    del study  # all of the photos are needed
    root = archive / "ants_bees"
    return Pictures(_folders(root / "train"), _folders(root / "test"), {})


def _omniglot(archive: Path, study: int) -> Pictures:
    root = archive / "omniglot_small2"
    every = sorted(one.name for one in (root / "train").iterdir())
    # Neighbours, since letters of one alphabet are harder to tell apart.
    first = random.Random(study).randrange(len(every) - 40)
    names = every[first : first + 40]
    train = _few(_folders(root / "train", names), 12, study)
    return Pictures(train, _folders(root / "test", names), {})


def _cifar(
    names: Sequence[str], each: int, wrong: float, archive: Path, study: int
) -> Pictures:
    root = archive / "cifar10_jpeg"
    train = _few(_folders(root / "train", names), each, study)
    test, more = _split(_folders(root / "test", names), 400 // len(names))
    return Pictures(_with_wrong_labels(train, wrong, study), test, more)


def _with_wrong_labels(
    pictures: Mapping[str, Sequence[Picture]], share: float, seed: int
) -> dict[str, list[Picture]]:
    """Move a share of each class's pictures to the folder of another class, drawn evenly."""
    rng, names = random.Random(seed), list(pictures)
    moved: dict[str, list[Picture]] = {name: [] for name in names}
    for name, those in pictures.items():
        wrong = round(share * len(those))
        for number, one in enumerate(those):
            others = [other for other in names if other != name]
            moved[rng.choice(others) if number < wrong else name].append(one)
    return moved


def _cifar_9(archive: Path, study: int) -> Pictures:
    names = [one.name for one in (archive / "cifar10_jpeg" / "train").iterdir()]
    return _cifar([one for one in names if one != "truck"], 24, 0.0, archive, study)


def _cifar_6_noisy(archive: Path, study: int) -> Pictures:
    return _cifar(ANIMALS, 40, WRONG_LABELS, archive, study)


def _grey(pictures: NDArray[Any], labels: NDArray[Any]) -> dict[str, list[Image.Image]]:
    return {
        str(label): [Image.fromarray(one) for one in pictures[labels == label]]
        for label in np.unique(labels)
    }


def _mnist(_: Path, study: int) -> Pictures:
    with np.load(lab.FOLDER / "mnist_t10k.npz") as arrays:
        pool = _grey(arrays["x_train"], arrays["y_train"])
        test, more = _split(_shuffled(_grey(arrays["x_test"], arrays["y_test"])), 40)
    return Pictures(_few(pool, 10, study), test, more)


def _digits(_: Path, study: int) -> Pictures:
    digits = Digits()
    pool: dict[str, list[Picture]] = {}
    for sample in digits.samples:
        pool.setdefault(digits.classes[int(str(sample.label))], []).append(digits.read(sample))
    held, pool = _split(_shuffled(pool), 120)
    test, more = _split(held, 40)
    return Pictures(_few(pool, 8, study), test, more)


def _spoken_digits(archive: Path, study: int) -> Pictures:
    """Takes 0 to 4 of each speaker are the test, as the publishers of the recordings want it."""
    test: dict[str, list[Picture]] = {}
    pool: dict[str, list[Picture]] = {}
    for digit in map(str, range(10)):
        for path in sorted((archive / digit).iterdir()):
            held = int(path.stem.rsplit("_", 1)[1]) < 5
            (test if held else pool).setdefault(digit, []).append(_spectrogram(path))
    return Pictures(_few(pool, 20, study), test, {})


def _spectrogram(path: Path) -> Image.Image:
    """Draw a recording: time to the right, frequencies to 4 kHz up, brightness by decibels."""
    with wave.open(str(path)) as recording:
        sound = np.frombuffer(recording.readframes(recording.getnframes()), dtype=np.int16)
    width = 128
    starts = np.linspace(0, max(0, len(sound) - width), 2 * SIDE).astype(int)
    padded = np.pad(sound.astype(float), (0, width))
    frames = np.stack([padded[start : start + width] for start in starts]) * np.hanning(width)
    power = np.log10(np.abs(np.fft.rfft(frames)[:, 1:]) + 1.0)
    grey = (255 * power / power.max()).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(grey.T[::-1])).resize((SIDE, SIDE))


def _shapes(_: Path, study: int) -> Pictures:
    held = {
        name: [_shape(name, random.Random(f"{name} {n}")) for n in range(150)]
        for name in SHAPES
    }
    test, more = _split(held, 50)
    train = {
        name: [_shape(name, random.Random(f"{study} {name} {n}")) for n in range(32)]
        for name in SHAPES
    }
    return Pictures(train, test, more)


def _shape(name: str, rng: random.Random) -> Image.Image:
    """Draw a shape of any colour, size and angle, not quite in the middle, on a speckled ground."""
    large = 4 * SIDE
    ground, ink = ([rng.randrange(256) for _ in range(3)] for _ in range(2))
    picture = Image.new("RGB", (large, large), tuple(ground))
    mask = Image.new("L", (large, large))
    x, y = (large / 2 + rng.uniform(-12, 12) for _ in range(2))
    _draw(name, ImageDraw.Draw(mask), (x, y), rng.uniform(22, 46), rng.uniform(0, 2 * math.pi))
    picture.paste(Image.new("RGB", (large, large), tuple(ink)), mask=mask)
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float)
    speckles = np.random.default_rng(rng.randrange(2**32)).normal(0, 12, small.shape)
    return Image.fromarray(np.clip(small + speckles, 0, 255).astype(np.uint8))


def _draw(
    name: str, draw: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, angle: float
) -> None:
    def disc(share: float, shift: float, ink: int) -> None:
        x, y = at[0] + shift * math.cos(angle), at[1] + shift * math.sin(angle)
        half = share * radius
        draw.ellipse((x - half, y - half, x + half, y + half), fill=ink)

    match name:
        case "ring":
            disc(1, 0, 255)
            disc(0.55, 0, 0)
        case "crescent":
            disc(1, 0, 255)
            disc(0.8, 0.5 * radius, 0)
        case _:
            corners = [
                (
                    at[0] + far * radius * math.cos(angle + turn),
                    at[1] + far * radius * math.sin(angle + turn),
                )
                for far, turn in _corners(name)
            ]
            draw.polygon(corners, fill=255)


def _corners(name: str) -> list[tuple[float, float]]:
    """Return the corners as distance from the middle, in radii, and angle."""
    regular = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6}
    if count := regular.get(name):
        return [(1.0, 2 * math.pi * n / count) for n in range(count)]
    if name == "star":
        return [(1.0 if n % 2 == 0 else 0.4, math.pi * n / 5) for n in range(10)]
    wide, inner = math.atan2(0.3, 1.0), 0.3 * math.sqrt(2)
    return [
        corner
        for n in range(4)
        for corner in (
            (1.04, math.pi / 2 * n - wide),
            (1.04, math.pi / 2 * n + wide),
            (inner, math.pi / 2 * n + math.pi / 4),
        )
    ]


JOBS = (
    Job(
        "ants_bees",
        _ants_bees,
        "ants_bees",
        "user:mbv2",
        "mbv2-w0.35_imagenet_bn.pt",
        128,
        5,
        chosen_on=True,
    ),
    Job("omniglot_40", _omniglot, "omniglot_small2", chosen_on=True),
    Job("cifar_9", _cifar_9, "cifar10_jpeg", chosen_on=True),
    Job("mnist_10", _mnist),
    Job("digits_8", _digits, backbone="glyphnet", weights="", side=8),
    Job("spoken_digits", _spoken_digits, "spoken_digits"),
    Job("shapes", _shapes),
    Job("cifar_6_noisy", _cifar_6_noisy, "cifar10_jpeg"),
)
