"""The interface of a modality: all that one kind of data says of itself, so that its samples can be stored.

There are two: pictures (`data/images/encoding`) and texts (`data/text/encoding`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from numpy.typing import NDArray

from trimtab.contract.recipe import Resize

HeaderT = TypeVar("HeaderT", contravariant=True)
ContentT = TypeVar("ContentT", contravariant=True)
SpecT = TypeVar("SpecT", contravariant=True)


Interpolation = Literal["bilinear", "bicubic"]
"""How pictures are scaled; both average over all pixels where they make a picture smaller."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """The form of samples that a network takes: square pictures.

    Attributes:
        side: The side in pixels; None leaves it to the data set.
        resize: The way in which pictures that are not square become so.
        interpolation: The way in which they are scaled.
        crop: The share of the shorter side that `resize: crop` keeps; the other two keep the whole picture.
    """

    side: int | None = None
    resize: Resize = "crop"
    interpolation: Interpolation = "bilinear"
    crop: float = 1.0


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """The form of samples that a network takes: rows of token numbers.

    Attributes:
        tokenizer: The folder of the tokenizer that the network was trained with.
        sha256: The hash of its files (`text.tokenizer.sha256_of`).
        length: The most tokens of a sample, special ones included.
    """

    tokenizer: Path
    sha256: str
    length: int


ANY_SIDE = ImageSpec()
"""The form that most networks take: they compute pictures of any size."""
InputSpec = ImageSpec | TokenSpec
"""The form of samples that a network takes, whatever its modality. A backbone says it, and samples are stored so."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How every sample of a data set is stored.

    Attributes:
        dtype: The type of the stored numbers, by numpy's name.
        shape: The shape of one sample.
        key: Changes whenever the same content would be stored otherwise; part of the cache's key.
        details: Facts that the modality encodes by, as JSON.
    """

    dtype: str
    shape: tuple[int, ...]
    key: str
    details: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)


class Modality(Protocol[HeaderT, ContentT, SpecT]):
    """One kind of data: what its samples are before they are decoded, and how they are stored.

    `HeaderT` and `ContentT` are what its sources tell of a sample (`Source`), `SpecT` its member of `InputSpec`.
    """

    @property
    def name(self) -> str:
        """The name of the modality, as `TaskData.modality` has it."""
        ...

    def facts(self, headers: Iterable[HeaderT]) -> Mapping[str, Any]:
        """Return what the headers of all readable samples come to, as JSON; there may be none.

        Sentences that a person should know stand under `notes`.
        """
        ...

    def encoding(self, facts: Mapping[str, Any], wanted: SpecT) -> Encoding:
        """Return how a data set of these facts is stored for a network that takes `wanted`."""
        ...

    def encode(self, content: ContentT, encoding: Encoding) -> NDArray[Any]:
        """Return one sample as it is stored: the encoding's dtype and shape."""
        ...
