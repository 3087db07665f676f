"""From a picture file to a square of bytes."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from tests.support.pictures import picture
from trimtab.contract.recipe import Resize
from worker.data.images import picture_files
from worker.data.images.encoding import Images
from worker.data.images.picture_files import ImageHeader, ImageUnreadable
from worker.data.images.pixels import SIXTEEN_BITS, Form, Levels, square


def _shown(path: Path, levels: Levels = SIXTEEN_BITS) -> list[int]:
    """The bytes of the first row of a grey picture."""
    image = picture_files.read(path)
    assert picture_files.header(path).grey
    return square(image, Form(image.width, 1, "squash", levels))[0, :, 0].tolist()


def _claim(path: Path, width: int, height: int) -> None:
    """A picture file that claims a size and brings no pixels."""
    path.write_text(f"P6 {width} {height} 255\n")


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_picture_comes_back_with_its_pixels(tmp_path: Path, mode: str, channels: int) -> None:
    original = picture(mode=mode)
    original.save(tmp_path / "a.png")
    pixels = square(picture_files.read(tmp_path / "a.png"), Form(12, channels))
    assert np.array_equal(pixels, np.asarray(original).reshape(12, 12, channels))


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4).save(tmp_path / "a.png")
    assert picture_files.read(tmp_path / "a.png").getpixel((0, 0)) == (10, 200, 30)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_becomes_white(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4), (0, 0, 0, 0) if mode == "RGBA" else (0, 0)).save(tmp_path / "a.png")
    assert picture_files.read(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    values = np.array([[0, 256, 32_768, 65_535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert _shown(tmp_path / "a.png") == [0, 1, 128, 255]
    assert picture_files.header(tmp_path / "a.png") == ImageHeader(
        4, 1, grey=True, levels=(0, 65_535)
    )


def test_a_photo_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(size=(20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert picture_files.read(tmp_path / "a.jpg").size == (10, 20)


def test_the_middle_of_an_oblong_picture_is_kept() -> None:
    pixels = np.zeros((10, 30), dtype=np.uint8)
    pixels[:, 10:20] = 200
    assert square(Image.fromarray(pixels), Form(10, 1)).min() == 200


def test_a_picture_with_floating_point_pixels_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageUnreadable, match="32 bits a pixel"):
        picture_files.read(tmp_path / "a.tif")


def _exif(orientation: int, tag: int, kind: int, value: int) -> bytes:
    """Metadata with an orientation and one more tag, of whatever kind."""
    head = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2)
    upright = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + upright + struct.pack(">HHII", tag, kind, 1, value) + bytes(12)


@pytest.mark.parametrize(
    ("tag", "kind", "value"),
    [
        (0x10F, 5, 0),
        (0x11A, 1, 0),
        (0x11A, 6, 2**32 - 1),
        (0x8769, 6, 2**32 - 1),
        (0x212, 1, 0),
    ],
)
def test_a_malformed_tag_beside_the_orientation_is_no_matter(
    tmp_path: Path, tag: int, kind: int, value: int
) -> None:
    exif = _exif(6, tag, kind, value)
    picture(size=(20, 10)).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises((AttributeError, TypeError, ValueError, struct.error)):
        ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    assert picture_files.read(tmp_path / "a.jpg").size == (10, 20)


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_turned_as_pillow_turns_it(
    tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture(size=(4, 3)).save(tmp_path / "a.png", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
    assert picture_files.read(tmp_path / "a.png").tobytes() == upright.tobytes()


@pytest.mark.parametrize("fault", [struct.error, KeyError, RuntimeError, NotImplementedError])
def test_whatever_pillow_raises_of_a_picture_makes_it_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    def fail(image: Image.Image) -> None:
        raise fault("of its content")

    picture().save(tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(ImageUnreadable, match="of its content"):
        picture_files.read(tmp_path / "a.png")


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_png_with_a_long_text_or_profile_is_a_picture(
    tmp_path: Path, kind: bytes, behind: bool
) -> None:
    packed = zlib.compress(bytes(2 << 20))
    content = {
        b"iCCP": b"name\0\0" + packed,
        b"zTXt": b"Comment\0\0" + packed,
        b"iTXt": b"Comment\0\1\0\0\0" + packed,
    }[kind]
    chunk = struct.pack(">I", len(content)) + kind + content
    chunk += struct.pack(">I", zlib.crc32(kind + content))
    original, path = picture(), tmp_path / "a.png"
    original.save(path, exif=_exif(3, 0x132, 3, 0))
    plain = path.read_bytes()
    at = len(plain) - 12 if behind else 33
    path.write_bytes(plain[:at] + chunk + plain[at:])
    limits = (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
    assert picture_files.header(path) == ImageHeader(12, 12, grey=False)
    turned = original.transpose(Image.Transpose.ROTATE_180)
    assert picture_files.read(path).tobytes() == turned.tobytes()
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)


def test_a_grey_map_of_sixteen_bits_is_scaled_by_its_largest_value(tmp_path: Path) -> None:
    for most, expected in ((65_535, [0, 1, 8, 15]), (4095, [0, 16, 128, 255])):
        values = np.array([0, 256, 2048, 4095], dtype=">u2").tobytes()
        (tmp_path / "a.pgm").write_bytes(f"P5 4 1 {most}\n".encode() + values)
        assert _shown(tmp_path / "a.pgm") == expected
    (tmp_path / "a.pgm").write_text("P2 4 1 4095 0 256 2048 4095")
    assert _shown(tmp_path / "a.pgm") == [0, 16, 128, 255]


def _tiff(path: Path, values: list[int], **tags: int) -> None:
    """A TIFF of one row of 16 bits, or of the `bits` that are asked for."""
    signed, bits = tags.get("signed", 0), tags.get("bits", 16)
    data = np.array(values, dtype=f"<{'i' if signed else 'u'}{bits // 8}").tobytes()
    fields = {
        256: len(values), 257: 1, 258: bits, 259: 1, 262: tags.get("photometric", 1), 273: 0, 277: 1, 278: 1,
        279: len(data), 339: 1 + signed,
    }  # fmt: skip
    if "most" in tags:
        fields[281] = tags["most"]
    fields[273] = 14 + 12 * len(fields)
    entries = b"".join(
        struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in sorted(fields.items())
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(fields))
    path.write_bytes(head + entries + bytes(4) + data)


def test_numbers_with_a_sign_keep_their_order(tmp_path: Path) -> None:
    _tiff(tmp_path / "a.tif", [-1024, -1, 0, 3071], signed=1)
    header = picture_files.header(tmp_path / "a.tif")
    assert header == ImageHeader(4, 1, grey=True, levels=(-1024, 3071))
    black, white = Images().facts([header])["levels"]
    assert (black, white) == (-1024, 4095)
    assert _shown(tmp_path / "a.tif", (black, white)) == [0, 51, 51, 204]


def test_bytes_with_a_sign_keep_their_order_too(tmp_path: Path) -> None:
    _tiff(tmp_path / "a.tif", [-128, -1, 0, 127], signed=1, bits=8)
    assert _shown(tmp_path / "a.tif") == [0, 127, 128, 255]
    _tiff(tmp_path / "a.tif", [0, 127, 128, 255], bits=8)
    assert _shown(tmp_path / "a.tif") == [0, 127, 128, 255]


def test_white_is_zero_where_the_file_says_so_in_sixteen_bits_too(tmp_path: Path) -> None:
    _tiff(tmp_path / "a.tif", [0, 256, 2048, 4095], photometric=0)
    assert _shown(tmp_path / "a.tif", (0, 4095)) == [255, 239, 127, 0]
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(
        tmp_path / "b.tif", tiffinfo={262: 0}
    )
    assert _shown(tmp_path / "b.tif") == list(np.asarray(Image.open(tmp_path / "b.tif"))[0])


def test_a_tiff_that_tells_its_largest_value_is_scaled_by_it(tmp_path: Path) -> None:
    _tiff(tmp_path / "a.tif", [0, 256, 2048, 4095], most=4095)
    assert _shown(tmp_path / "a.tif") == [0, 16, 128, 255]
    _tiff(tmp_path / "a.tif", [0, 256, 2048, 65_535], most=4095)
    assert _shown(tmp_path / "a.tif") == [0, 1, 8, 255]


@pytest.mark.parametrize(
    ("numbers", "levels"),
    [
        ([(0, 4000)], (0, 4095)),
        ([(5, 4096)], (0, 8191)),
        ([(0, 4095), (0, 65_000)], (0, 65_535)),
        ([(0, 9)], (0, 255)),
        ([(-1, 0)], (-1, 255)),
        ([(-1025, 4095)], (-2048, 4095)),
        ([(-9, -2)], (-16, 255)),
        ([None, (0, 1000)], (0, 1023)),
        ([None], SIXTEEN_BITS),
    ],
)
def test_deep_pictures_are_scaled_by_the_whole_bits_of_the_data_set(
    numbers: list[Levels | None], levels: Levels
) -> None:
    facts = Images().facts([ImageHeader(2, 2, grey=True, levels=each) for each in numbers])
    assert tuple(facts["levels"]) == levels
    told = f"in them {levels[0]} is black and {levels[1]} is white"
    assert [told in note for note in facts["notes"]] == [True] * any(numbers)


@pytest.mark.parametrize("mode", ["1", "L", "L;2", "L;4", "I;16", "RGB"])
def test_a_transparent_grey_is_white_like_a_transparent_colour(
    tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "a.png"
    if mode == "RGB":
        Image.new("RGB", (3, 1)).save(path, transparency=(0, 0, 0))
    elif mode == "1":
        Image.fromarray(np.array([[False, True, False]])).save(path, transparency=0)
    elif mode == "I;16":
        values = np.array([[512, 40_000, 513]], dtype=np.uint16)
        Image.fromarray(values).save(path, transparency=512)
    else:
        _few_bits(path, int(mode[2:] or 8) if mode != "L" else 8)
    expected = {"RGB": [255] * 3, "1": [255] * 3, "I;16": [255, 156, 2]}
    image = picture_files.read(path)
    assert square(image, Form(3, 1, "squash"))[0, :, 0].tolist() == expected.get(
        mode, [255, 255, 0]
    )


def _few_bits(path: Path, bits: int) -> None:
    """A grey PNG of so few bits with the pixels 1 (transparent), white and black."""
    row = b"".join(f"{value:0{bits}b}".encode() for value in (1, 2**bits - 1, 0))
    line = bytes([0]) + int(row.ljust(-len(row) % 8 + len(row), b"0"), 2).to_bytes(
        (len(row) + 7) // 8
    )
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", 3, 1, bits, 0, 0, 0, 0),
        b"tRNS": struct.pack(">H", 1),
        b"IDAT": zlib.compress(line),
        b"IEND": b"",
    }
    chunks = [
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts.items()
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


_MIDDLE = np.repeat(np.array([[50, 100, 150]], dtype=np.uint8), 4, axis=0).repeat(4, axis=1)
"""Three squares of grey side by side."""


@pytest.mark.parametrize(
    ("resize", "rows"),
    [
        ("crop", [[100, 100, 100]] * 3),
        ("squash", [[50, 100, 150]] * 3),
        ("pad", [[0, 0, 0], [50, 100, 150], [0, 0, 0]]),
    ],
)
def test_an_oblong_picture_becomes_square_as_the_recipe_says(
    resize: Resize, rows: list[list[int]]
) -> None:
    wide = square(Image.fromarray(_MIDDLE), Form(3, 1, resize))[..., 0]
    assert np.abs(wide.astype(int) - rows).max() <= 8
    tall = square(Image.fromarray(_MIDDLE.T.copy()), Form(3, 1, resize))[..., 0]
    assert np.array_equal(tall, wide.T)


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1), (7, 7)])
def test_a_picture_of_any_proportions_becomes_square(
    resize: Resize, size: tuple[int, int]
) -> None:
    assert square(Image.new("RGB", size, "white"), Form(8, 3, resize)).max() == 255


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    picture(size=(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageUnreadable):
        picture_files.read(path)


@pytest.mark.parametrize("size", [(10_000, 5_001), (12_000, 12_000), (60_000, 60_000)])
def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    _claim(tmp_path / "a.ppm", *size)
    with pytest.raises(ImageUnreadable, match=r"million|exceeds limit"):
        picture_files.header(tmp_path / "a.ppm")


def test_a_picture_of_exactly_the_limit_passes_by_its_header(tmp_path: Path) -> None:
    _claim(tmp_path / "a.ppm", 10_000, 5_000)
    assert picture_files.header(tmp_path / "a.ppm") == ImageHeader(10_000, 5_000, grey=False)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_picture_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageUnreadable):
        picture_files.read(path)


def test_a_border_is_left_out_of_a_picture_that_is_cropped_and_of_no_other() -> None:
    ramp = Image.fromarray(np.tile(np.arange(0, 200, 10, dtype=np.uint8), (20, 1)))
    ends = {
        resize: square(ramp, Form(10, 1, resize, crop=0.5))[5, [0, -1], 0].tolist()
        for resize in ("crop", "squash", "pad")
    }
    assert ends["crop"] == [50, 140]
    assert ends["squash"] == ends["pad"]
    assert ends["pad"][0] < 10
    assert square(ramp, Form(20, 1, "pad", crop=0.5)).shape == (20, 20, 1)


def test_pictures_are_scaled_as_the_form_says() -> None:
    step = Image.fromarray(np.repeat(np.array([[0, 200]], dtype=np.uint8), 2, axis=0))
    linear, cubic = (
        square(step, Form(8, 1, interpolation=way))[0, :, 0].tolist()
        for way in ("bilinear", "bicubic")
    )
    assert linear == sorted(linear)
    assert max(cubic) > max(linear) == 200
