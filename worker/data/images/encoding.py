"""Pictures as they are stored: squares of bytes, all of one side."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.data.images import picture_files, pixels
from worker.data.images.picture_files import ImageHeader, ImageUnreadable
from worker.data.images.pixels import SIXTEEN_BITS, Form, Levels
from worker.data.modality import Encoding, ImageSpec

OWN_SIDE_LIMIT = 64
"""Pictures that all have one side of at most this many pixels keep it ..."""
COMMON_SIDE = 32
"""... and all others are scaled to this one, where nobody asks for a size."""


class Images:
    """The modality of pictures."""

    name = "image"

    def facts(self, headers: Iterable[ImageHeader]) -> Mapping[str, Any]:
        """Return the channels (1 if all pictures are grey) and the side that all have in common, None if there is none.

        `levels` are the black and the white of deep pictures.
        """
        found = list(headers)
        sides = {side for header in found for side in (header.width, header.height)}
        deep = [header.levels for header in found if header.levels is not None]
        black, white = _levels(deep)
        note = f"pictures of more than 8 bits a pixel: {len(deep)}; in them {black} is black and {white} is white"
        return {
            "channels": 1 if all(header.grey for header in found) else 3,
            "side": sides.pop() if len(sides) == 1 else None,
            "levels": [black, white],
            "notes": [note] if deep else [],
        }

    def encoding(self, facts: Mapping[str, Any], wanted: ImageSpec) -> Encoding:
        """Return bytes `(side, side, channels)`.

        Args:
            facts: The facts of the data set, as `facts` returned them.
            wanted: A side, or None: small pictures that all agree keep theirs (`OWN_SIDE_LIMIT`), others are scaled
                to `COMMON_SIDE`.
        """
        side = wanted.side or _own_side(facts)
        black, white = facts["levels"]
        scaled = wanted.interpolation, wanted.crop
        return encoding_of(
            Form(side, facts["channels"], wanted.resize, (black, white), *scaled)
        )

    def encode(self, content: Image.Image, encoding: Encoding) -> NDArray[np.uint8]:
        """Return the bytes of a picture, made square."""
        side, _, channels = encoding.shape
        told = encoding.details
        black, white = told["levels"]
        scaled = told["interpolation"], told["crop"]
        form = Form(side, channels, told["resize"], (black, white), *scaled)
        return pixels.square(content, form)


def encoding_of(form: Form) -> Encoding:
    """Return the encoding of pictures of this form."""
    # Said where it is not as ever, so that what was decoded before keeps its key.
    scaled = (form.interpolation, form.crop)
    otherwise = "" if scaled == ("bilinear", 1.0) else f" {form.interpolation} {form.crop}"
    return Encoding(
        "uint8",
        (form.side, form.side, form.channels),
        f"image {form.side} {form.resize} {form.levels}{otherwise}",
        {
            "resize": form.resize,
            "levels": list(form.levels),
            "interpolation": form.interpolation,
            "crop": form.crop,
        },
    )


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
        image = (
            picture_files.read(picture) if isinstance(picture, Path) else pixels.plain(picture)
        )
        return Images().encode(image, encoding)
    except (ImageUnreadable, OSError, ValueError) as error:
        return str(error)


def _levels(deep: Sequence[Levels]) -> Levels:
    """Return black and white for pictures with these smallest and largest numbers.

    White is the largest number rounded up to whole bits: 12 bits in files of 16 keep their 256 levels of grey, and one
    more picture seldom changes the others. Black is 0; of numbers with a sign, the smallest, rounded likewise.
    """
    if not deep:
        return SIXTEEN_BITS
    least, most = min(low for low, _ in deep), max(high for _, high in deep)
    black = -(1 << (-least - 1).bit_length()) if least < 0 else 0
    return black, (1 << max(8, max(0, most).bit_length())) - 1


def _own_side(facts: Mapping[str, Any]) -> int:
    side = facts["side"]
    return side if side is not None and side <= OWN_SIDE_LIMIT else COMMON_SIDE
