"""From a decoded picture to a square of bytes: depth, transparency, size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trimtab.contract.recipe import Resize
from worker.data.modality import Interpolation

Levels = tuple[int, int]
"""The numbers that stand for black and for white in pictures of more than 8 bits a pixel."""

SIXTEEN_BITS: Levels = (0, 65_535)
WHITE_IS_ZERO = "white_is_zero"
"""The key in a picture's `info` that says that its numbers are to be turned round."""
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE, _SAMPLE_FORMAT = 258, 262, 281, 339
"""Tags of TIFF."""
_SIGNED = (2,)
_GREY_MODES = ("1", "L", "I")


@dataclass(frozen=True, slots=True)
class Form:
    """How pictures of a data set are stored.

    Attributes:
        side: The side of the square, in pixels.
        channels: 1 for grey, 3 for colour.
        resize: The way in which pictures that are not square become so.
        levels: Black and white of deep pictures.
        interpolation: The way in which they are scaled.
        crop: The share of the shorter side that `resize: crop` keeps.
    """

    side: int
    channels: int
    resize: Resize = "crop"
    levels: Levels = SIXTEEN_BITS
    interpolation: Interpolation = "bilinear"
    crop: float = 1.0

    @property
    def loses_a_border(self) -> bool:
        """Whether the border of a square picture is left out too."""
        return self.resize == "crop" and self.crop < 1


def is_grey(image: Image.Image) -> bool:
    """Tell whether a picture has no colours, by its mode."""
    return image.mode in _GREY_MODES or is_deep(image)


def is_deep(image: Image.Image) -> bool:
    """Tell whether a picture has one channel of more than 8 bits, by its mode."""
    return image.mode == "I" or image.mode.startswith("I;16")


def plain(image: Image.Image) -> Image.Image:
    """Return a decoded picture in mode L or RGB, and a deep one in mode I with its numbers; what is transparent is white.

    A deep picture keeps its transparent number, and that its white is zero, in `info`: which bytes its numbers become
    is known when all of a data set are (`square`).

    Raises:
        ValueError: It has 32 bits a pixel.
    """
    if is_deep(image):
        return _numbers(image)
    if image.mode == "F":
        raise ValueError("32 bits a pixel; save it with 8 or 16")
    if image.mode in _GREY_MODES:
        grey = _unsigned(image.convert("L"), getattr(image, "tag_v2", {}))
        if "transparency" not in image.info:
            return grey
        values = np.asarray(grey)
        return _whitened(values, values == image.info["transparency"])
    # Behind what is transparent files often hold black, which nobody has seen. People see such a picture on white.
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _unsigned(grey: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """Return a grey picture whose numbers from -128 to 127, where a TIFF says that it has such, are bytes in that order."""
    if tags.get(_SAMPLE_FORMAT) != _SIGNED:
        return grey
    return Image.fromarray(np.asarray(grey) ^ np.uint8(128))


def square(image: Image.Image, form: Form) -> NDArray[np.uint8]:
    """Return the bytes `(side, side, channels)` of a picture that `plain` returned."""
    if is_deep(image):
        image = _shown(image, form.levels)
    image = image.convert("L" if form.channels == 1 else "RGB")
    if form.loses_a_border or image.size != (form.side, form.side):
        image = _RESIZED[form.resize](image, form)
    return np.asarray(image, dtype=np.uint8).reshape(form.side, form.side, form.channels)


def _cropped(image: Image.Image, form: Form) -> Image.Image:
    size, method = (form.side, form.side), _METHODS[form.interpolation]
    return ImageOps.fit(image, size, method=method, bleed=(1 - form.crop) / 2)


def _squashed(image: Image.Image, form: Form) -> Image.Image:
    return image.resize((form.side, form.side), _METHODS[form.interpolation])


def _padded(image: Image.Image, form: Form) -> Image.Image:
    side, longest = form.side, max(image.size)
    width, height = (max(1, round(each * side / longest)) for each in image.size)
    around = Image.new(image.mode, (side, side))
    scaled = image.resize((width, height), _METHODS[form.interpolation])
    around.paste(scaled, ((side - width) // 2, (side - height) // 2))
    return around


_METHODS: Mapping[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


_RESIZED = {"crop": _cropped, "squash": _squashed, "pad": _padded}


def _numbers(image: Image.Image) -> Image.Image:
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    signed = tags.get(_SAMPLE_FORMAT) == _SIGNED and tags.get(_BITS_PER_SAMPLE) == (16,)
    if image.mode == "I" and not signed and image.format != "PPM":
        # Where white lies is not known for these: any scale would be a guess.
        raise ValueError("32 bits a pixel; save it with 8 or 16")
    values = np.asarray(image).astype(np.int32)
    bits = 16 if signed else _bits(tags)
    if values.max(initial=0) < 1 << bits:
        values <<= 16 - bits
    numbers = Image.fromarray(values)
    numbers.info = dict(image.info)
    if tags.get(_PHOTOMETRIC) == 0:  # Pillow turns 8 bits round, but not 16.
        numbers.info[WHITE_IS_ZERO] = True
    return numbers


def _bits(tags: Mapping[int, Any]) -> int:
    """Return how many of 16 bits a TIFF says that it uses; 16 where it says nothing."""
    # A number for each channel, of which there is one; and whatever a malformed file has there.
    match cast(object, tags.get(_MAX_SAMPLE_VALUE)):
        case (int(most),) if 0 < most < 1 << 16:
            return most.bit_length()
        case _:
            return min(16, *tags.get(_BITS_PER_SAMPLE, (16,)))


def _shown(image: Image.Image, levels: Levels) -> Image.Image:
    """Return the bytes of a deep picture."""
    black, white = levels
    values = np.asarray(image).astype(np.int64)
    grey = ((values - black) * 256 // (white - black + 1)).clip(0, 255).astype(np.uint8)
    if WHITE_IS_ZERO in image.info:
        grey = 255 - grey
    return _whitened(grey, values == image.info.get("transparency", black - 1))


def _whitened(grey: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(np.where(hidden, np.uint8(255), grey))
