"""Pictures as they are stored: squares of bytes, all of one side."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.data.images import picture_files
from worker.data.images.picture_files import ImageHeader, ImageUnreadable
from worker.data.modality import Encoding, ImageSpec

OWN_SIDE_LIMIT = 64
"""Pictures that all have one side of at most this many pixels keep it ..."""
COMMON_SIDE = 32
"""... and all others are scaled to this one, where nobody asks for a size."""


class Images:
    """The modality of pictures."""

    name = "image"

    def facts(self, headers: Iterable[ImageHeader]) -> Mapping[str, Any]:
        """Return the channels (1 if all pictures are grey) and the side that all have in common, None if there is none."""
        found = list(headers)
        sides = {side for header in found for side in (header.width, header.height)}
        return {
            "channels": 1 if all(header.grey for header in found) else 3,
            "side": sides.pop() if len(sides) == 1 else None,
        }

    def encoding(self, facts: Mapping[str, Any], wanted: ImageSpec) -> Encoding:
        """Return bytes `(side, side, channels)`.

        Args:
            facts: The facts of the data set, as `facts` returned them.
            wanted: A side, or None: small pictures that all agree keep theirs (`OWN_SIDE_LIMIT`), others are scaled
                to `COMMON_SIDE`.
        """
        side = wanted.side or _own_side(facts)
        return encoding_of((side, side, facts["channels"]))

    def encode(self, content: Image.Image, encoding: Encoding) -> NDArray[np.uint8]:
        """Scale the shorter side, keep the middle, and return the bytes."""
        side, _, channels = encoding.shape
        return picture_files.square(content, side=side, channels=channels)


def encoding_of(shape: tuple[int, ...]) -> Encoding:
    """Return the encoding of pictures `(side, side, channels)`."""
    return Encoding("uint8", shape, f"image {shape[0]}")


def encode_files(
    pictures: Sequence[Path | Image.Image], encoding: Encoding
) -> list[NDArray[np.uint8] | str]:
    """Encode pictures that a person hands over, as files or as Pillow images.

    Returns:
        The bytes of each picture, or why its file cannot be read: it is missing, broken or too large.
    """
    return [_encoded(picture, encoding) for picture in pictures]


def _encoded(picture: Path | Image.Image, encoding: Encoding) -> NDArray[np.uint8] | str:
    try:
        image = picture_files.read(picture) if isinstance(picture, Path) else picture
        return Images().encode(image, encoding)
    except (ImageUnreadable, OSError) as error:
        return str(error)


def _own_side(facts: Mapping[str, Any]) -> int:
    side = facts["side"]
    return side if side is not None and side <= OWN_SIDE_LIMIT else COMMON_SIDE
