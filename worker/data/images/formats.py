"""Which files are pictures. Their content says so: names mislead, and many pictures have none that tells."""

from functools import cache
from pathlib import Path

from PIL import Image

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are read, by Pillow's names. Others of Pillow's take for a picture what is none, or start programs."""

_VAGUE = ("BMP", "PPM")
"""Formats that begin with two letters, as a text may: their names must say the same."""
_LONGEST_BEGINNING = 16


def claims_to_be_a_picture(path: Path) -> bool:
    """Tell a picture that is broken from a file that is none: by its first bytes, or by its name.

    Raises:
        OSError: The system does not let it be read.
    """
    if path.suffix.lower() in _suffixes():
        return True
    with path.open("rb") as file:
        beginning = file.read(_LONGEST_BEGINNING)
    accepts = [Image.OPEN[name][1] for name in FORMATS if name not in _VAGUE]
    return any(accept is not None and accept(beginning) for accept in accepts)


@cache
def _suffixes() -> frozenset[str]:
    extensions = Image.registered_extensions()
    return frozenset(suffix for suffix, name in extensions.items() if name in FORMATS)
