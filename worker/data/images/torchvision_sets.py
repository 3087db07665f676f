"""Public data sets by their names in torchvision, read from torchvision's own files by its own classes.

Their integrity checks stay on: what torchvision unpickles (CIFAR) has the md5 that it publishes.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from worker.data.errors import DataError, DatasetAbsent
from worker.data.groups import group_of
from worker.data.images import picture_files
from worker.data.images.picture_files import ImageHeader
from worker.data.network import patience
from worker.data.roots import Roots
from worker.data.source import Part, Sample

_DOWNLOAD_TIMEOUT_S = 30.0
# Attributes of torchvision's classes. They have no common interface, and no two of them keep the same names.
_LABELS = ("targets", "labels", "_labels")
_FILES = ("_image_files", "_images")
_PAIRS = ("samples", "_samples")
"""Names of the attributes that hold labels, files, and both together; the first that a class has is read."""

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Known:
    """Facts about one data set that torchvision's class does not tell.

    Attributes:
        files: Paths under the root that are there once the data set is.
        splits: Arguments of torchvision's class for each split; None stands for a data set without splits.
        group: The regular expression that finds the group of a picture in its path, if the data set has groups.
    """

    files: Sequence[str]
    splits: Mapping[Part | None, Arguments]
    group: re.Pattern[str] | None = None


_BY_FLAG: Mapping[Part | None, Arguments] = {"train": {"train": True}, "test": {"train": False}}


def _named(train: str, validation: str | None = None) -> Mapping[Part | None, Arguments]:
    names: dict[Part | None, str | None] = {
        "train": train,
        "validation": validation,
        "test": "test",
    }
    return {part: {"split": name} for part, name in names.items() if name}


_KNOWN: Mapping[str, _Known] = {
    "CIFAR10": _Known(["cifar-10-batches-py"], _BY_FLAG),
    "CIFAR100": _Known(["cifar-100-python"], _BY_FLAG),
    "DTD": _Known(["dtd"], _named("train", "val")),
    "EuroSAT": _Known(["eurosat"], {None: {}}),
    "FGVCAircraft": _Known(["fgvc-aircraft-2013b"], _named("train", "val")),
    "FashionMNIST": _Known(["FashionMNIST"], _BY_FLAG),
    "Flowers102": _Known(["flowers-102"], _named("train", "val")),
    "Food101": _Known(["food-101"], _named("train")),
    # A track is a sign that a car has passed; its frames are numbered, and hardly differ.
    "GTSRB": _Known(
        ["gtsrb"], _named("train"), re.compile(r"GTSRB/Training/(\d+/\d+)_\d+\.ppm$")
    ),
    "KMNIST": _Known(["KMNIST"], _BY_FLAG),
    "MNIST": _Known(["MNIST"], _BY_FLAG),
    "OxfordIIITPet": _Known(["oxford-iiit-pet"], _named("trainval")),
    "SVHN": _Known(["train_32x32.mat", "test_32x32.mat"], _named("train")),
}


class VisionSet:
    """One of torchvision's data sets.

    Args:
        name: The name of torchvision's class.
        root: The folder that holds its files.
        download: Whether to fetch those that are not there.
        roots: The folders in which the pictures may be; None allows what no roots allow.
    """

    def __init__(
        self, name: str, root: Path, *, download: bool, roots: Roots | None = None
    ) -> None:
        self._name = name
        self._root = root
        self._download = download
        self._roots = roots or Roots()
        self._known = _KNOWN[name]

    @property
    def fingerprint(self) -> str:
        """Path, size and time of change of every file, hashed; fetches them if there are none.

        Raises:
            DatasetAbsent: They are neither here nor reachable.
        """
        # torchvision is imported, which takes seconds, only where files must be fetched or listed.
        if not all((self._root / name).exists() for name in self._known.files):
            _ = self._opened
        seen = hashlib.sha256(f"{self._name} {self._root}".encode())
        for path in self._all_files():
            status = path.stat()
            seen.update(f"{path}\0{status.st_size} {status.st_mtime_ns}\n".encode())
        return seen.hexdigest()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; where the data set has only numbers, these."""
        return self._listing[0]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every picture; one without a file of its own is named after its split and position."""
        return self._listing[1]

    def locate(self, sample: Sample) -> Path:
        """Return the picture's full path, or the made-up one."""
        return self._root / sample.path

    def digest(self, sample: Sample) -> str:
        """Return the sha256 of the picture's file, or of its bytes."""
        if self._has_files:
            with self._file(sample).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(self.read(sample).tobytes()).hexdigest()

    def header(self, sample: Sample) -> ImageHeader:
        """Return size and kind."""
        if self._has_files:
            return picture_files.header(self._file(sample))
        picture = self.read(sample)
        return ImageHeader(*picture.size, grey=picture.mode == "L")

    def read(self, sample: Sample) -> Image.Image:
        """Decode the picture."""
        if self._has_files:
            return picture_files.read(self._file(sample))
        picture, _ = self._opened[sample.part][int(sample.path.name)]
        return picture

    def _file(self, sample: Sample) -> Path:
        return self._roots.check(self.locate(sample), below=self._root)

    @cached_property
    def _listing(self) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
        listed: list[tuple[Path, int, Part | None]] = [
            (path, label, part)
            for part, opened in self._opened.items()
            for path, label in self._listed(part, opened)
        ]
        pattern = self._known.group
        samples = tuple(
            Sample(path, label, part, pattern and group_of(pattern, path.as_posix()))
            for path, label, part in listed
        )
        names = {tuple(getattr(opened, "classes", ())) for opened in self._opened.values()}
        if len(names) > 1:
            raise DataError(f"{self._name} under {self._root}: its splits have other classes")
        numbers = range(max(label for _, label, _ in listed) + 1)
        return next(iter(names)) or tuple(str(number) for number in numbers), samples

    @cached_property
    def _opened(self) -> Mapping[Part | None, Any]:
        # Imported here because torchvision costs seconds, and a filled cache does without.
        from torchvision import datasets

        make = getattr(datasets, self._name)
        try:
            with self._alone(), patience(_DOWNLOAD_TIMEOUT_S):
                return {
                    part: make(str(self._root), download=self._download, **arguments)
                    for part, arguments in self._known.splits.items()
                }
        except (OSError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            arguments = list(self._known.splits.values())
            raise DatasetAbsent(
                self._name, self._root, self._known.files, arguments, reason
            ) from error

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Keep the other workers of this machine from fetching the same files meanwhile."""
        if not self._download:
            yield
            return
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / f".{self._name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @cached_property
    def _has_files(self) -> bool:
        return any(
            hasattr(opened, name)
            for opened in self._opened.values()
            for name in (*_FILES, *_PAIRS)
        )

    def _listed(self, part: Part | None, opened: Any) -> Iterator[tuple[Path, int]]:
        pairs = _first(opened, _PAIRS)
        labels = [label for _, label in pairs] if pairs is not None else _first(opened, _LABELS)
        files = [file for file, _ in pairs] if pairs is not None else _first(opened, _FILES)
        for position, label in enumerate(labels):
            if files is None:
                yield Path(f"{part}/{position:06}"), int(label)
            else:
                yield Path(files[position]).relative_to(self._root), int(label)

    def _all_files(self) -> Iterator[Path]:
        for name in self._known.files:
            if (self._root / name).is_file():
                yield self._root / name
            for parent, folders, names in os.walk(self._root / name):
                folders.sort()
                yield from (Path(parent, each) for each in sorted(names))


def _first(opened: Any, names: Sequence[str]) -> Any:
    return next((getattr(opened, name) for name in names if hasattr(opened, name)), None)
