"""Pictures in class folders."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from PIL import Image

from worker.data.errors import DataMissing, EmptyClass, NoClasses, SingleClass, UnknownClass
from worker.data.images import picture_files
from worker.data.images.picture_files import ImageHeader
from worker.data.roots import Roots
from worker.data.source import Part, Sample

PART_NAMES: Mapping[str, Part] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


_Picture = tuple[str, int | tuple[float, ...], Part | None]
"""Path, label and split of a picture. Its `Sample` has a `Path`, which takes longer to make than to ask for a stamp."""


@dataclass(frozen=True)
class ImageFolder:
    """A folder of class folders, or of train, val and test folders that hold the class folders."""

    root: Path
    classes: tuple[str, ...]
    listed: tuple[_Picture, ...]
    roots: Roots = field(default_factory=Roots, kw_only=True)

    @property
    def samples(self) -> Sequence[Sample]:
        """Every picture; they are made when somebody asks, which a trial whose pictures are decoded does not."""
        return self._samples

    @cached_property
    def _samples(self) -> tuple[Sample, ...]:
        return tuple(Sample(Path(path), label, part) for path, label, part in self.listed)

    @property
    def fingerprint(self) -> str:
        """Path, size, time of change and permissions of every picture, hashed."""
        seen = hashlib.sha256(str(self.root).encode())
        for path, _, _ in self.listed:
            stamp = _stamp(f"{self.root}/{path}")
            seen.update(f"{path}\0{stamp}\n".encode(errors="surrogateescape"))
        return seen.hexdigest()

    def locate(self, sample: Sample) -> Path:
        """Return the picture's full path."""
        return self.root / sample.path

    def digest(self, sample: Sample) -> str:
        """Return the sha256 of the picture's file."""
        with self._file(sample).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def header(self, sample: Sample) -> ImageHeader:
        """Return size and kind without decoding."""
        return picture_files.header(self._file(sample))

    def read(self, sample: Sample) -> Image.Image:
        """Decode the picture."""
        return picture_files.read(self._file(sample))

    def _file(self, sample: Sample) -> Path:
        return self.roots.check(self.locate(sample), below=self.root)


def scan(root: Path, roots: Roots | None = None) -> ImageFolder:
    """List a folder's pictures; which layout it has, its folders' names tell.

    With a `train` folder beside nothing but `val` (or `valid`, `validation`) and `test`, these are the splits;
    otherwise every folder is a class.

    Args:
        root: The folder, which may be read.
        roots: The folders in which the pictures may be; None allows what no roots allow.

    Raises:
        DataError: There is nothing that a classification could be learned from.
    """
    if not root.is_dir():
        raise DataMissing(root)
    try:
        return replace(_scan(root), roots=roots or Roots())
    except OSError as error:
        raise DataMissing(root, error.strerror or str(error)) from error


def _scan(root: Path) -> ImageFolder:
    parts = _folders(root)
    # A class may be called "test" or "train". Only folders that all have the names of splits are splits.
    if "train" not in parts or not set(parts) <= set(PART_NAMES):
        classes = _classes(root)
        return ImageFolder(root, classes, tuple(_listed(root, root, classes, None)))
    train = root / "train"
    classes = _classes(train)
    listed: list[_Picture] = []
    for name in parts:
        if unknown := sorted(set(_folders(root / name)) - set(classes)):
            # Not a class of its own: nothing could be learned of it, and every sample of it would count as wrong.
            raise UnknownClass(root / name / unknown[0], train)
        listed += _listed(root, root / name, classes, PART_NAMES[name])
    return ImageFolder(root, classes, tuple(listed))


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116 - asked of every picture before each trial
    except OSError:
        return "unreadable"  # Reading it will say why.
    # Owner and permissions too: a file that could not be read before may have become readable without any other change.
    return f"{status.st_size} {status.st_mtime_ns} {status.st_mode} {status.st_uid} {status.st_gid}"


def _folders(path: Path) -> list[str]:
    return sorted(
        entry.name for entry in os.scandir(path) if entry.is_dir() and entry.name[0] != "."
    )


def _classes(path: Path) -> tuple[str, ...]:
    names = _folders(path)
    if not names:
        raise NoClasses(path)
    if len(names) == 1:
        raise SingleClass(path, names[0])
    return tuple(names)


def _listed(
    root: Path, part_root: Path, classes: tuple[str, ...], part: Part | None
) -> Iterator[_Picture]:
    for label, name in enumerate(classes):
        # Strings, in the order of paths: there are as many as pictures, and they are listed before each trial.
        pictures = sorted(_pictures(part_root / name), key=lambda path: path.split("/"))
        if not pictures and part in (None, "train"):
            raise EmptyClass(part_root / name, picture_files.SUFFIXES)
        for path in pictures:
            yield path[len(str(root).rstrip("/")) + 1 :], label, part


def _pictures(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(picture_files.SUFFIXES) and name[0] != ".":
                yield f"{parent}/{name}"
