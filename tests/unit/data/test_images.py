"""From a picture file to a square of bytes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support.pictures import picture
from worker.data.images import picture_files
from worker.data.images.picture_files import ImageHeader, ImageUnreadable


def _claim(path: Path, width: int, height: int) -> None:
    """A picture file that claims a size and brings no pixels."""
    path.write_text(f"P6 {width} {height} 255\n")


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_picture_comes_back_with_its_pixels(tmp_path: Path, mode: str, channels: int) -> None:
    original = picture(mode=mode)
    original.save(tmp_path / "a.png")
    pixels = picture_files.square(
        picture_files.read(tmp_path / "a.png"), side=12, channels=channels
    )
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
    assert np.asarray(picture_files.read(tmp_path / "a.png")).tolist() == [[0, 1, 128, 255]]
    assert picture_files.header(tmp_path / "a.png") == ImageHeader(4, 1, grey=True)


def test_a_photo_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(size=(20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert picture_files.read(tmp_path / "a.jpg").size == (10, 20)


def test_the_middle_of_an_oblong_picture_is_kept() -> None:
    pixels = np.zeros((10, 30), dtype=np.uint8)
    pixels[:, 10:20] = 200
    square = picture_files.square(Image.fromarray(pixels), side=10, channels=1)
    assert square.min() == 200


def test_a_picture_with_floating_point_pixels_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageUnreadable, match="32 bits a pixel"):
        picture_files.read(tmp_path / "a.tif")


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
