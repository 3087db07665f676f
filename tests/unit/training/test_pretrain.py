"""Glyphs, and the pretraining of glyphnet on them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from trimtab.contract.tasks import Model
from worker.commands.pretrain import pretrain_glyphs
from worker.data.images import glyphs
from worker.data.images.glyphs import CHARACTERS
from worker.training.model import backbones
from worker.training.model.export import load_exported


def _scalable_font(path: Path) -> Path:
    """Pillow's own Aileron as a font file."""
    font = ImageFont.load_default(12)
    assert isinstance(font, ImageFont.FreeTypeFont)
    path.write_bytes(font.font_bytes)
    return path


def test_pillows_own_fonts_are_always_there() -> None:
    names = {face.name for face in glyphs.typefaces([])}
    assert names == {"Pillow's bitmap font", "Pillow's Aileron"}


def test_a_font_file_is_named_with_its_hash_and_counts_once(tmp_path: Path) -> None:
    one, copy = _scalable_font(tmp_path / "one.ttf"), _scalable_font(tmp_path / "copy.ttf")
    (face,) = (face for face in glyphs.typefaces([one, copy]) if face.name == "one.ttf")
    assert face.sha256 == hashlib.sha256(one.read_bytes()).hexdigest()
    assert "copy.ttf" not in {face.name for face in glyphs.typefaces([one, copy])}


def test_where_a_font_lies_makes_no_difference(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    here = _scalable_font(tmp_path / "a" / "one.ttf")
    there = _scalable_font(tmp_path / "b" / "one.ttf")
    assert [face.sha256 for face in glyphs.typefaces([here])] == [
        face.sha256 for face in glyphs.typefaces([there])
    ]


def test_a_file_that_is_no_font_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert len(glyphs.typefaces([tmp_path / "broken.ttf"])) == 2


def test_glyphs_are_white_on_black_and_differ(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(len(CHARACTERS)), 3)
    drawn = glyphs.draw(glyphs.typefaces([]), labels, np.random.default_rng(0))
    assert drawn.shape == (186, 8, 8, 1)
    assert drawn.dtype == np.uint8
    assert drawn.reshape(186, -1).max(axis=1).min() > 60
    assert len({glyph.tobytes() for glyph in drawn}) > 180
    corners = drawn[:, [0, 0, -1, -1], [0, -1, 0, -1], 0]
    assert corners.mean() < drawn.mean() / 2


def test_the_same_fonts_and_seed_give_the_same_file(tmp_path: Path) -> None:
    fonts = [_scalable_font(tmp_path / "one.ttf")]
    # By their hashes: pytest would lay out half a million unequal bytes.
    one, same, other = (
        hashlib.sha256(
            pretrain_glyphs(
                tmp_path / name, epochs=2, seed=seed, fonts=fonts, glyphs_per_class=4
            ).read_bytes()
        ).hexdigest()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == same
    assert one != other


def test_a_pretrained_file_has_a_card_and_can_be_begun_from(tmp_path: Path) -> None:
    fonts = [_scalable_font(tmp_path / "one.ttf")]
    epochs: list[int] = []
    path = pretrain_glyphs(
        tmp_path,
        epochs=2,
        seed=1,
        fonts=fonts,
        glyphs_per_class=4,
        progress=lambda result: epochs.append(result.epoch),
    )
    assert epochs == [0, 1]
    card = load_exported(path).card
    assert card.classes == tuple(CHARACTERS)
    assert set(card.fonts.values()) == {"Pillow's bitmap font", "Pillow's Aileron", "one.ttf"}
    spec = Model(backbone="glyphnet", weights=str(path))
    assert backbones.build(spec, classes=("0", "1"), seed=0).own_head is not None


def test_the_weights_that_come_with_trimtab_name_every_font_with_its_hash() -> None:
    card = load_exported(backbones.GLYPHNET_WEIGHTS).card
    assert card.classes == tuple(CHARACTERS)
    assert card.scores.validation_accuracy == pytest.approx(0.8, abs=0.05)
    assert "DejaVuSans.ttf" in card.fonts.values()
    assert all(len(sha256) == 64 for sha256 in card.fonts)
