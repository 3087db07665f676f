"""From a picture file to a square array of bytes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from worker.data.images.formats import FORMATS
from worker.data.source import SampleUnreadable

MAX_PIXELS = 50_000_000
"""Larger pictures are refused before a byte of them is decoded: a few KB can unpack to many GB."""

_GREY_MODES = ("1", "L", "I;16", "I;16L", "I;16B", "I;16N")
_NO_PICTURE = (
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""Errors that Pillow raises on bytes that are not a picture; the last one where warnings are errors."""


class ImageUnreadable(SampleUnreadable):
    """One picture cannot be decoded; the message is the reason."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a picture is before it is decoded."""

    width: int
    height: int
    grey: bool


def header(path: Path) -> ImageHeader:
    """Return size and kind of a picture without decoding it.

    Raises:
        ImageUnreadable: It is no picture, or too large.
        OSError: The system does not let it be read.
    """
    with _open(path) as image:
        return ImageHeader(*image.size, grey=_is_grey(image))


def read(path: Path) -> Image.Image:
    """Decode a picture, upright and in mode L or RGB; what is transparent becomes white.

    Raises:
        ImageUnreadable: It is no picture, too large, broken or truncated.
        OSError: The system does not let it be read.
    """
    try:
        with _open(path) as image:
            # Pillow decodes only here, so that what is broken behind the header shows here.
            image.load()
            return _plain(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        _pass_on(error)
        raise ImageUnreadable(f"broken or truncated ({error})") from error


def square(image: Image.Image, *, side: int, channels: int) -> NDArray[np.uint8]:
    """Scale the shorter side to `side`, keep the middle, and return `(side, side, channels)` bytes."""
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (side, side):
        image = ImageOps.fit(image, (side, side), method=Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(side, side, channels)


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=FORMATS)
    except _NO_PICTURE as error:
        _pass_on(error)
        raise ImageUnreadable(f"not a picture that can be read ({error})") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise ImageUnreadable(
            f"{width} x {height} pixels are more than the {MAX_PIXELS // 1_000_000} million allowed"
        )
    return image


def _pass_on(error: Exception) -> None:
    """Raise what the system says as it is; what Pillow says of a file's content is an OSError without a number."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY_MODES


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        # Where white lies is not known for these: any scale would be a guess.
        raise ValueError("32 bits a pixel; save it with 8 or 16")
    if image.mode.startswith("I;16"):
        # Pillow's own conversion to eight bits clips at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in _GREY_MODES:
        return image.convert("L")
    # Behind what is transparent files often hold black, which nobody has seen. People see such a picture on white.
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
