"""The interface of a data source: it lists its samples, hashes their content and decodes one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from trimtab.contract.records import Part

__all__ = ["Header", "Part", "Sample", "Source"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture; `part` is the split that the data set itself puts it in, if it has any."""

    path: Path
    """The file, relative to the data set; what has no files makes one up."""
    label: int | tuple[float, ...]
    """Position of its class; or of each target a class position, a number or 0 and 1, NaN where it is not known."""
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture is before it is decoded."""

    width: int
    height: int
    grey: bool


class Source(Protocol):
    """A data set's pictures, listed but not decoded."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; a sample's label is a position here."""
        ...

    @property
    def samples(self) -> Sequence[Sample]:
        """Every picture, in an order that depends on the data alone."""
        ...

    @property
    def fingerprint(self) -> str:
        """What changes whenever the content may have changed; cheap enough to be asked at every load."""
        ...

    def locate(self, sample: Sample) -> Path:
        """Return the path under which a broken picture is reported."""
        ...

    def digest(self, sample: Sample) -> str:
        """Return the sha256 of a picture's content."""
        ...

    def header(self, sample: Sample) -> Header:
        """Return size and kind of a picture; raises ImageUnreadable."""
        ...

    def read(self, sample: Sample) -> Image.Image:
        """Decode a picture into mode L or RGB; raises ImageUnreadable."""
        ...
