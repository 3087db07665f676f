"""What all ways of fetching have in common: one file at an address, opened where an earlier try broke off."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from trimtab.contract.message import Message

CHUNK_BYTES = 1 << 20


class Version(Message):
    """What tells one content of an address from the next, as far as its server says."""

    etag: str | None = None
    changed: str | None = None
    """When it was changed last, in the server's words."""
    bytes: int | None = None

    def is_same(self, other: "Version") -> bool:
        """Tell whether this is the same content; where a server tells nothing, it may always be another."""
        return self == other and self != Version()

    @property
    def shown(self) -> str:
        """Return what a person can compare."""
        return self.etag or self.changed or f"{self.bytes} bytes"


class Part(Message):
    """What has arrived of a file: so many of the bytes of this version."""

    version: Version
    bytes: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose bytes can be read.

    Attributes:
        version: Its version.
        offset: The number of bytes before the first one that is read: those of an earlier try.
        chunks: The bytes from there on. Reading raises `Unanswered` where the transfer breaks off.
    """

    version: Version
    offset: int
    chunks: Iterator[bytes]


class Origin(Protocol):
    """A way of fetching: https, buckets, the service."""

    def opened(
        self, address: str, known: Version | None, part: Part | None
    ) -> AbstractContextManager[Opened | None]:
        """Open what an address names; None where it is still the version that is known.

        Args:
            address: The address, without what follows its `#`.
            known: The version that is at hand.
            part: The bytes that an earlier try has left.

        Raises:
            FetchError: It cannot be fetched; `Unanswered` where another try may succeed.
        """
        ...
