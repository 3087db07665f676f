"""Pictures in class folders."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image

from worker.data.errors import DataMissing, EmptyClass, NoClasses, SingleClass, UnknownClass
from worker.data.groups import group_of
from worker.data.images import formats, layout, picture_files
from worker.data.images.picture_files import ImageHeader, ImageUnreadable
from worker.data.images.tree import Folder, LeftOut, walk
from worker.data.roots import Roots
from worker.data.source import NotASample, Part, Sample

_OUTSIDE = "in no class folder"

_Picture = tuple[str, int | tuple[float, ...], Part | None, str | None]
"""Path, label, split and group of a picture. Its `Sample` has a `Path`, which takes longer to make than to ask for a stamp."""


@dataclass(frozen=True)
class ImageFolder:
    """A folder of class folders, or of train, val and test folders that hold the class folders.

    Attributes:
        root: The folder.
        classes: The names of the classes.
        listed: Every file in the class folders; which of them are pictures, their content says (`header`).
        left_out: Files and folders beside them.
        pattern: The regular expression that must find the group of each picture in its path; None: there are no groups.
    """

    root: Path
    classes: tuple[str, ...]
    listed: tuple[_Picture, ...]
    left_out: LeftOut = field(default_factory=dict[str, Sequence[str]], kw_only=True)
    pattern: str | None = field(default=None, kw_only=True)
    roots: Roots = field(default_factory=Roots, kw_only=True)

    @property
    def samples(self) -> Sequence[Sample]:
        """Every file; they are made when somebody asks, which a trial whose pictures are decoded does not."""
        return self._samples

    @cached_property
    def _samples(self) -> tuple[Sample, ...]:
        return tuple(
            Sample(Path(path), label, part, group) for path, label, part, group in self.listed
        )

    @property
    def division(self) -> str:
        """Text that changes whenever the same pictures may have other groups or be in other splits."""
        return self.pattern or ""  # Splits are folders, so that the pictures' paths tell them.

    @property
    def fingerprint(self) -> str:
        """Path, size, time of change and permissions of every file, hashed."""
        seen = hashlib.sha256(str(self.root).encode())
        for path, *_ in self.listed:
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
        """Return size and kind without decoding.

        Raises:
            NotASample: The file neither begins like a picture nor has the name of one.
            ImageUnreadable: It does, and is none.
            OSError: The system does not let it be read.
        """
        path = self._file(sample)
        try:
            return picture_files.header(path)
        except ImageUnreadable as error:
            if formats.claims_to_be_a_picture(path):
                raise
            raise NotASample("not a picture that can be read") from error

    def read(self, sample: Sample) -> Image.Image:
        """Decode the picture."""
        return picture_files.read(self._file(sample))

    def _file(self, sample: Sample) -> Path:
        return self.roots.check(self.locate(sample), below=self.root)


def scan(root: Path, pattern: str | None = None, roots: Roots | None = None) -> ImageFolder:
    """List a folder's files by class and split; which layout it has, its folders tell (`layout`).

    Args:
        root: The folder, which may be read.
        pattern: The regular expression that finds a picture's group in its path below the folder; None: no groups.
        roots: The folders in which the pictures may be; None allows what no roots allow.

    Raises:
        DataError: There is nothing that a classification could be learned from.
    """
    if not root.is_dir():
        raise DataMissing(root)
    try:
        tree, left_out = walk(root, roots)
    except OSError as error:
        raise DataMissing(root, error.strerror or str(error)) from error
    groups = None if pattern is None else re.compile(pattern)
    parts = layout.splits_of(root, tree)
    inside = [tree.folders[name] for name in parts]
    train = next((tree.folders[name] for name in parts if parts[name] == "train"), tree)
    classes = _classes(root, train, groups)
    held: list[tuple[Folder, Part | None]] = [
        (tree.folders[name], part) for name, part in parts.items()
    ]
    listed = [
        one for each, part in held or [(tree, None)] for one in _listed(root, train, each, part)
    ]
    outside = [path for folder in (tree, *inside) for path in folder.own_files()]
    return ImageFolder(
        root,
        classes,
        tuple((*one, groups and group_of(groups, one[0])) for one in listed),
        pattern=pattern,
        roots=roots or Roots(),
        left_out={**left_out, **({_OUTSIDE: outside} if outside else {})},
    )


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116 - asked of every picture before each trial
    except OSError:
        return "unreadable"  # Reading it will say why.
    # Owner and permissions too: a file that could not be read before may have become readable without any other change.
    return f"{status.st_size} {status.st_mtime_ns} {status.st_mode} {status.st_uid} {status.st_gid}"


def _classes(root: Path, train: Folder, groups: re.Pattern[str] | None) -> tuple[str, ...]:
    names = tuple(train.folders)
    if not names:
        raise NoClasses(root / train.path)
    layout.check_classes(root, train, groups)
    if len(names) == 1:
        raise SingleClass(root / train.path, names[0])
    return names


def _listed(
    root: Path, train: Folder, held: Folder, part: Part | None
) -> Iterator[tuple[str, int, Part | None]]:
    if unknown := sorted(set(held.folders) - set(train.folders)):
        # Not a class of its own: nothing could be learned of it, and every sample of it would count as wrong.
        raise UnknownClass(root / held.path / unknown[0], root / train.path)
    for label, name in enumerate(train.folders):
        # Strings, in the order of paths: there are as many as pictures, and they are listed before each trial.
        files = held.folders.get(name, Folder()).all_files()
        paths = sorted(files, key=lambda path: path.split("/"))
        if not paths and part in (None, "train"):
            raise EmptyClass(root / held.path / name)
        for path in paths:
            yield path, label, part
