"""Glyphs that look drawn by hand, rendered with Pillow from fonts: what glyphnet is pretrained on."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SIDE = 8
"""Pixels along a side of a finished glyph."""

_CANVAS = 64
_GRID = 4
_FONT_FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("~/.fonts"),
    Path("~/.local/share/fonts"),
    Path("/System/Library/Fonts"),
    Path("/Library/Fonts"),
    Path("~/Library/Fonts"),
)
_FONT_SUFFIXES = (".ttf", ".otf", ".pfb")

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True, slots=True)
class Typeface:
    """A font with its name and the sha256 of its file (of its picture of all characters, if it has no file)."""

    name: str
    sha256: str
    font: Font


def find_fonts() -> tuple[Path, ...]:
    """Return the font files in this machine's usual folders, in the order of their names."""
    folders = [folder.expanduser() for folder in _FONT_FOLDERS]
    return tuple(
        sorted(
            path
            for folder in folders
            if folder.is_dir()
            for path in folder.rglob("*")
            if path.suffix.lower() in _FONT_SUFFIXES
        )
    )


def typefaces(paths: Iterable[Path]) -> tuple[Typeface, ...]:
    """Open Pillow's own fonts and the files that draw every character.

    The same file counts once, and where it lies makes no difference: the faces are in the order of their hashes.
    """
    faces = {face.sha256: face for face in _own_typefaces()}
    for path in paths:
        try:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            font = ImageFont.truetype(path, _CANVAS)
        except OSError:
            continue  # A broken file, or one that we may not read.
        if _draws_all(font):
            faces.setdefault(sha256, Typeface(path.name, sha256, font))
    return tuple(face for _, face in sorted(faces.items()))


def draw(
    faces: Sequence[Typeface], labels: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw one glyph for each label, in a face chosen at random.

    Args:
        faces: The typefaces that one is chosen from for each glyph.
        labels: `(N,)`, positions in `CHARACTERS`.
        random: The generator that decides everything else.

    Returns:
        `(N, SIDE, SIDE, 1)`, white on black.
    """
    glyphs = np.empty((len(labels), SIDE, SIDE, 1), dtype=np.uint8)
    plain = {
        (row, label): _plain(face.font, CHARACTERS[label])
        for row, face in enumerate(faces)
        for label in range(len(CHARACTERS))
    }
    for row, label in enumerate(labels):
        face = int(random.integers(len(faces)))
        glyphs[row, :, :, 0] = _by_hand(plain[face, int(label)], random)
    return glyphs


def _own_typefaces() -> list[Typeface]:
    fonts: dict[str, Font] = {"Pillow's bitmap font": ImageFont.load_default_imagefont()}
    scalable = ImageFont.load_default(_CANVAS)
    if isinstance(scalable, ImageFont.FreeTypeFont):
        fonts["Pillow's Aileron"] = scalable
    return [
        Typeface(
            name,
            hashlib.sha256(
                b"".join(_plain(font, character).tobytes() for character in CHARACTERS)
            ).hexdigest(),
            font,
        )
        for name, font in fonts.items()
    ]


def _draws_all(font: Font) -> bool:
    """Tell a Latin font from one of symbols, which draws the same box for every letter it has not."""
    pictures = [_plain(font, character) for character in CHARACTERS]
    distinct = {picture.tobytes() for picture in pictures}
    return all(picture.getbbox() for picture in pictures) and len(distinct) > len(pictures) // 2


def _plain(font: Font, character: str) -> Image.Image:
    """The character as the font has it, cropped and scaled to fill a square of `_CANVAS` with a margin."""
    image = Image.new("L", (4 * _CANVAS, 4 * _CANVAS))
    ImageDraw.Draw(image).text((_CANVAS, _CANVAS), character, fill=255, font=font)
    return _fill(image, _CANVAS * 5 // 8)


def _fill(image: Image.Image, extent: int, stretch: float = 1.0) -> Image.Image:
    """Crop to what is drawn and centre it on a new canvas, its longer side `extent`."""
    box = image.getbbox()
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    if box is None:
        return canvas
    drawn = image.crop(box)
    width, height = drawn.width * stretch, drawn.height
    scale = extent / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    corner = ((_CANVAS - size[0]) // 2, (_CANVAS - size[1]) // 2)
    canvas.paste(drawn.resize(size, Image.Resampling.BILINEAR), corner)
    return canvas


def _by_hand(glyph: Image.Image, random: np.random.Generator) -> NDArray[np.uint8]:
    """Bend, turn, thicken, blur and shrink a glyph into what 8 x 8 scans of handwriting look like."""
    bent = glyph.transform(
        glyph.size, Image.Transform.MESH, _mesh(random), Image.Resampling.BILINEAR
    )
    narrow = float(np.exp(random.normal(-0.2, 0.15)))
    image = _fill(bent, int(random.integers(56, 65)), stretch=narrow)
    image = _with_ink(image, float(random.uniform(0.16, 0.36)))
    image = image.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 2))))
    image = ImageChops.offset(image, *(int(shift) for shift in random.integers(-4, 5, size=2)))
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    noisy = small * random.uniform(1.0, 1.5) + random.normal(0, 8, small.shape) * (small > 8)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _with_ink(image: Image.Image, share: float) -> Image.Image:
    """Thicken a thin glyph or thin a bold one until about `share` of the canvas is white."""
    thin = np.asarray(image).mean() / 255 < share
    change = ImageFilter.MaxFilter(3) if thin else ImageFilter.MinFilter(3)
    # One step changes much ink, so that the last picture on the same side of the share is kept, not the first beyond
    # it: a thin glyph must not become a blot, nor a bold one vanish.
    for _ in range(4):
        changed = image.filter(change)
        if (np.asarray(changed).mean() / 255 < share) != thin:
            break
        image = changed
    return image


def _mesh(
    random: np.random.Generator,
) -> list[tuple[tuple[int, int, int, int], tuple[float, ...]]]:
    """A grid over the canvas: each target cell with the corners of the quadrilateral it is taken from."""
    angle, shear = random.normal(0, 0.12), random.normal(0, 0.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1.0, shear], [0.0, 1.0]])
    steps = np.linspace(0, _CANVAS, _GRID + 1)
    vertices = np.stack(np.meshgrid(steps, steps), axis=-1) - _CANVAS / 2
    source = vertices @ linear.T + _CANVAS / 2 + random.normal(0, 2.2, vertices.shape)
    cells: list[tuple[tuple[int, int, int, int], tuple[float, ...]]] = []
    for y in range(_GRID):
        for x in range(_GRID):
            target = (int(steps[x]), int(steps[y]), int(steps[x + 1]), int(steps[y + 1]))
            # Pillow wants the corners from the upper left counterclockwise.
            corners = (source[y, x], source[y + 1, x], source[y + 1, x + 1], source[y, x + 1])
            cells.append((target, tuple(float(v) for corner in corners for v in corner)))
    return cells
