"""Picture files: what they are before they are decoded, and their pixels."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from worker.data.images import formats, pixels
from worker.data.images.formats import FORMATS
from worker.data.images.pixels import Levels
from worker.data.source import SampleUnreadable

MAX_PIXELS = 50_000_000
"""Larger pictures are refused before a byte of them is decoded: a few KB can unpack to many GB."""

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
"""Chunks of a PNG that change no pixel here: colour profiles and texts."""
_OF_LONG_TEXT = "MAX_TEXT_"
"""The beginning of the limits that Pillow names when it refuses a PNG for such a chunk."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its orientation (Exif 2.32, section 4.6.4)."""
_LEVELS_OF_GREY = {"L;2": 3, "L;4": 15}
"""The number of white in a PNG of so few bits: Pillow scales its pixels to 255, but not its transparent number."""

_Result = TypeVar("_Result")


class ImageUnreadable(SampleUnreadable):
    """One picture cannot be decoded; the message is the reason."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a picture is before it is stored.

    Attributes:
        width: Pixels from left to right, before it is turned upright.
        height: Pixels from top to bottom.
        grey: Whether it has no colours.
        levels: The smallest and the largest number of a picture of more than 8 bits a pixel; None for others.
    """

    width: int
    height: int
    grey: bool
    levels: Levels | None = None


def header(path: Path) -> ImageHeader:
    """Return size and kind of a picture; only a deep one is decoded, for its numbers.

    Raises:
        ImageUnreadable: It is no picture, or too large; or it is deep and cannot be decoded.
        OSError: The system does not let it be read.
    """

    def look(image: Image.Image) -> ImageHeader:
        levels = None
        if pixels.is_deep(image):
            numbers = np.asarray(_decoded(image))
            levels = (int(numbers.min()), int(numbers.max()))
        return ImageHeader(*image.size, grey=pixels.is_grey(image), levels=levels)

    return _opened(path, look)


def is_one(path: Path) -> bool:
    """Tell whether a file that lies among others is meant to be a picture, though perhaps a broken one.

    One that the system does not let be read counts: whoever reads it is told why.
    """
    try:
        return formats.claims_to_be_a_picture(path) or _opened(path, lambda _: True)
    except ImageUnreadable:
        return False
    except OSError:
        return True


def read(path: Path) -> Image.Image:
    """Decode a picture, upright and in mode L, RGB or I; see `pixels.plain`.

    Raises:
        ImageUnreadable: It is no picture, too large, broken or truncated.
        OSError: The system does not let it be read.
    """
    return _opened(path, _decoded)


def _opened(path: Path, use: Callable[[Image.Image], _Result]) -> _Result:
    """Open a picture and use it; whatever Pillow raises of its content makes it unreadable, not the caller fail."""
    try:
        try:
            return _used(path, use)
        except ValueError as error:
            if _OF_LONG_TEXT not in str(error):
                raise
            return _used(io.BytesIO(_without_texts(path.read_bytes())), use)
    except (ImageUnreadable, MemoryError):
        raise
    except Exception as error:
        # What the system says passes as it is; what Pillow says of a file's content is an OSError without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ImageUnreadable(f"not a picture, broken or truncated ({error})") from error


def _used(file: Path | io.BytesIO, use: Callable[[Image.Image], _Result]) -> _Result:
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageUnreadable(
                f"{width} x {height} pixels are more than the {MAX_PIXELS // 1_000_000} million allowed"
            )
        return use(image)


def _decoded(image: Image.Image) -> Image.Image:
    tiles = getattr(image, "tile", [])
    white = _LEVELS_OF_GREY.get(str(tiles[0].args)) if tiles else None
    if white and "transparency" in image.info:
        image.info["transparency"] = image.info["transparency"] * 255 // white
    # Pillow decodes only here, so that what is broken behind the header shows here.
    image.load()
    upright, turn = pixels.plain(image), _TURNS.get(_orientation(image))
    return upright if turn is None else upright.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Return the orientation, 1 where the file says none that can be read.

    Pillow's own `exif_transpose` writes the rest of the metadata anew, and fails where one of its tags is malformed.
    """
    try:
        told = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - it raises whatever the bytes happen to spell
        return 1
    return told if isinstance(told, int) else 1


def _without_texts(content: bytes) -> bytes:
    """Return a PNG without the chunks that Pillow may refuse for their length.

    They are not read, so that one which unpacks to gigabytes does no harm.
    """
    if not content.startswith(_PNG):
        return content
    kept, at = [_PNG], len(_PNG)
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4])
        if content[at + 4 : at + 8] not in _TEXTS:
            kept.append(content[at:end])
        at = end
    return b"".join(kept)
