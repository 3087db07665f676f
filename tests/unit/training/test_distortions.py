"""The operations of TrivialAugment and RandAugment, each compared with torchvision's."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from worker.training.augment import image_operations

Reference = Callable[[Any, float], Tensor]


def _pictures(count: int = 3, channels: int = 3, side: int = 16) -> Tensor:
    random = torch.Generator().manual_seed(1)
    shape = (count, side, side, channels)
    return torch.randint(20, 200, shape, generator=random, dtype=torch.uint8)


def _affine(picture: Tensor, **change: Any) -> Tensor:
    whole: Any = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    return vision.affine(picture, **(whole | change))


# Where torchvision turns or shifts the other way, the sign differs: both go both ways by a coin.
REFERENCES: Mapping[str, tuple[float, Reference]] = {
    "shear_x": (
        0.3,
        lambda x, a: _affine(x, shear=[math.degrees(math.atan(a)), 0.0], center=[0, 0]),
    ),
    "shear_y": (
        -0.3,
        lambda x, a: _affine(x, shear=[0.0, math.degrees(math.atan(a))], center=[0, 0]),
    ),
    "translate_x": (5.0, lambda x, a: _affine(x, translate=[-int(a), 0])),
    "translate_y": (-3.0, lambda x, a: _affine(x, translate=[0, -int(a)])),
    "rotate": (33.0, lambda x, a: vision.rotate(x, a)),
    "brightness": (0.4, lambda x, a: vision.adjust_brightness(x, 1 + a)),
    "colour": (-0.6, lambda x, a: vision.adjust_saturation(x, 1 + a)),
    "contrast": (0.5, lambda x, a: vision.adjust_contrast(x, 1 + a)),
    "sharpness": (-0.8, lambda x, a: vision.adjust_sharpness(x, 1 + a)),
    "posterize": (3.0, lambda x, a: vision.posterize(x, 8 - int(a))),
    "solarize": (100.0, lambda x, a: vision.solarize(x, 255 - a)),
    "autocontrast": (0.0, lambda x, _: vision.autocontrast(x)),
    "equalize": (0.0, lambda x, _: vision.equalize(x)),
    "unchanged": (0.0, lambda x, _: x),
}


def test_every_operation_of_both_spaces_has_a_reference() -> None:
    assert set(image_operations.TRIVIAL) == set(image_operations.RAND) == set(REFERENCES)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", REFERENCES)
def test_an_operation_is_torchvisions_with_an_amount_for_each_picture(
    name: str, channels: int
) -> None:
    amount, reference = REFERENCES[name]
    pictures = _pictures(channels=channels)
    amounts = torch.tensor([amount, 0.0, amount])
    changed = image_operations.TRIVIAL[name].apply(pictures, amounts)
    assert (changed.shape, changed.dtype) == (pictures.shape, torch.uint8)
    for row in range(len(pictures)):
        expected = reference(pictures[row].permute(2, 0, 1), float(amounts[row]))
        difference = (changed[row].permute(2, 0, 1).int() - expected.int()).abs()
        # A value on the border between two pixels or two whole numbers may be rounded either way.
        assert (difference > 1).float().mean() < 0.02, name


@pytest.mark.parametrize("name", sorted(set(REFERENCES) - {"autocontrast", "equalize"}))
def test_an_operation_of_no_amount_changes_nothing(name: str) -> None:
    pictures = _pictures()
    assert torch.equal(image_operations.RAND[name].apply(pictures, torch.zeros(3)), pictures)


def test_the_wide_space_is_the_papers() -> None:
    most = {name: operation.most(224) for name, operation in image_operations.TRIVIAL.items()}
    assert (most["shear_x"], most["translate_y"], most["rotate"]) == (0.99, 32, 135)
    assert (most["brightness"], most["posterize"], most["solarize"]) == (0.99, 6, 255)
    assert image_operations.TRIVIAL["translate_x"].most(8) == 8
    assert image_operations.RAND["translate_x"].most(331) == 150
