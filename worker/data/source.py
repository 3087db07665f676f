"""The interface of a data source: it lists its samples, hashes their content and decodes one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from trimtab.contract.records import Part

__all__ = ["NotASample", "Part", "Sample", "SampleUnreadable", "Source"]

HeaderT = TypeVar("HeaderT", covariant=True)
ContentT = TypeVar("ContentT", covariant=True)


class SampleUnreadable(Exception):
    """One sample cannot be decoded; the message is the reason."""


class NotASample(Exception):
    """A file in the data set's folders is none of its samples; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled sample; `part` is the split that the data set itself puts it in, if it has any."""

    path: Path
    """The file, relative to the data set; what has no files makes one up."""
    label: int | tuple[float, ...]
    """The position of its class. With targets, a number for each: a class position, a value, or 0 and 1; NaN where it
    is not known."""
    part: Part | None = None
    group: str | None = None
    """The name of what it shares with others, such as a person; all of a group go to one split (`groups`)."""


class Source(Protocol[HeaderT, ContentT]):
    """A data set's samples, listed but not decoded.

    Their modality says what a sample's header and its content are: size and a Pillow image for pictures.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; a sample's label is a position here."""
        ...

    @property
    def samples(self) -> Sequence[Sample]:
        """Every sample, in an order that depends on the data alone; some may turn out to be none (`header`)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever the content may have changed; cheap enough to be asked at every load."""
        ...

    def locate(self, sample: Sample) -> Path:
        """Return the path under which a broken sample is reported."""
        ...

    def digest(self, sample: Sample) -> str:
        """Return the sha256 of a sample's content."""
        ...

    def header(self, sample: Sample) -> HeaderT:
        """Return what is known of a sample before it is decoded; raises SampleUnreadable, and NotASample."""
        ...

    def read(self, sample: Sample) -> ContentT:
        """Decode a sample; raises SampleUnreadable."""
        ...
