"""The operations of TrivialAugment and RandAugment, for a whole batch with an amount for each picture.

Each takes uint8 pictures `(N, H, W, C)`, grey or colour, and amounts `(N,)` on the same device, and returns pictures of
the same shape. Pixels from outside of a picture are black. The results are those of torchvision's operations of the
same names (https://docs.pytorch.org/vision/stable/transforms.html), which take one amount for all pictures. A few take
the amount with the opposite sign, which a fair coin decides in both spaces.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_LUMA = (0.2989, 0.587, 0.114)

Distortion = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Operation:
    """A distortion with the range of its amounts.

    Attributes:
        apply: The distortion.
        most: The largest amount, as a function of the pictures' side in pixels.
        signed: True if the sign of the amount is drawn by a fair coin.
    """

    apply: Distortion
    most: Callable[[int], float]
    signed: bool = False


def unchanged(images: Tensor, _: Tensor) -> Tensor:
    """Return the pictures."""
    return images


def shear_x(images: Tensor, amounts: Tensor) -> Tensor:
    """Shift each row by its distance from the top times the amount."""
    return _warp(images, xy=amounts)


def shear_y(images: Tensor, amounts: Tensor) -> Tensor:
    """Shift each column by its distance from the left times the amount."""
    return _warp(images, yx=amounts)


def translate_x(images: Tensor, amounts: Tensor) -> Tensor:
    """Shift to the left by an amount in pixels."""
    return _warp(images, x=amounts)


def translate_y(images: Tensor, amounts: Tensor) -> Tensor:
    """Shift upwards by an amount in pixels."""
    return _warp(images, y=amounts)


def rotate(images: Tensor, amounts: Tensor) -> Tensor:
    """Turn about the middle by an amount in degrees."""
    cos, sin = amounts.deg2rad().cos(), amounts.deg2rad().sin()
    middle_x, middle_y = images.shape[2] / 2, images.shape[1] / 2
    return _warp(
        images,
        xx=cos,
        xy=-sin,
        x=middle_x - cos * middle_x + sin * middle_y,
        yx=sin,
        yy=cos,
        y=middle_y - sin * middle_x - cos * middle_y,
    )


def brightness(images: Tensor, amounts: Tensor) -> Tensor:
    """Move the pictures away from black by the amount; a negative amount moves them towards it."""
    return _away_from(torch.zeros((), device=images.device), images, amounts)


def colour(images: Tensor, amounts: Tensor) -> Tensor:
    """Move the pictures away from their grey versions by the amount, or towards them; grey pictures stay."""
    return images if images.shape[3] == 1 else _away_from(_grey(images), images, amounts)


def contrast(images: Tensor, amounts: Tensor) -> Tensor:
    """Move the pictures away from their mean grey by the amount, or towards it."""
    return _away_from(_grey(images).mean(dim=(1, 2, 3), keepdim=True), images, amounts)


def sharpness(images: Tensor, amounts: Tensor) -> Tensor:
    """Move the pictures away from their smoothed versions by the amount, or towards them; the border stays."""
    x = images.permute(0, 3, 1, 2).float()
    smooth = x.clone()
    # Pillow's filter: the middle counts 5, each of its 8 neighbours 1.
    smooth[:, :, 1:-1, 1:-1] = (
        9 * functional.avg_pool2d(x, 3, 1) + 4 * x[:, :, 1:-1, 1:-1]
    ) / 13
    return _away_from(smooth.permute(0, 2, 3, 1).round(), images, amounts)


def posterize(images: Tensor, amounts: Tensor) -> Tensor:
    """Clear the lowest bits, as many as the rounded amount says."""
    kept = 256 - torch.exp2(amounts.round())
    return images & _of_each(kept).to(torch.uint8)


def solarize(images: Tensor, amounts: Tensor) -> Tensor:
    """Invert the values that are at least 255 minus the amount."""
    return torch.where(images >= 255 - _of_each(amounts), 255 - images, images)


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel over all values."""
    # Imported here because torchvision costs seconds, and most trainings do without.
    from torchvision.transforms.v2 import functional as vision

    return vision.autocontrast(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Flatten each channel's histogram."""
    from torchvision.transforms.v2 import functional as vision  # As above.

    return vision.equalize(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _space(
    *, shear: float, translate: Callable[[int], float], turn: float, blend: float, bits: int
) -> Mapping[str, Operation]:
    def up_to(amount: float) -> Callable[[int], float]:
        return lambda _: amount

    return {
        "unchanged": Operation(unchanged, up_to(0)),
        "shear_x": Operation(shear_x, up_to(shear), signed=True),
        "shear_y": Operation(shear_y, up_to(shear), signed=True),
        "translate_x": Operation(translate_x, translate, signed=True),
        "translate_y": Operation(translate_y, translate, signed=True),
        "rotate": Operation(rotate, up_to(turn), signed=True),
        "brightness": Operation(brightness, up_to(blend), signed=True),
        "colour": Operation(colour, up_to(blend), signed=True),
        "contrast": Operation(contrast, up_to(blend), signed=True),
        "sharpness": Operation(sharpness, up_to(blend), signed=True),
        "posterize": Operation(posterize, up_to(bits)),
        "solarize": Operation(solarize, up_to(255)),
        "autocontrast": Operation(autocontrast, up_to(0)),
        "equalize": Operation(equalize, up_to(0)),
    }


TRIVIAL = _space(shear=0.99, translate=lambda side: min(32, side), turn=135, blend=0.99, bits=6)
"""The wide space of TrivialAugment (https://arxiv.org/abs/2103.10158), as in torchvision's `TrivialAugmentWide`."""

RAND = _space(shear=0.3, translate=lambda side: 150 / 331 * side, turn=30, blend=0.9, bits=4)
"""The space of RandAugment (https://arxiv.org/abs/1909.13719, section 3), as in torchvision's `RandAugment`."""


def _warp(
    images: Tensor,
    *,
    xx: Tensor | float = 1,
    xy: Tensor | float = 0,
    x: Tensor | float = 0,
    yx: Tensor | float = 0,
    yy: Tensor | float = 1,
    y: Tensor | float = 0,
) -> Tensor:
    """Fill each pixel (column, row) with the pixel nearest to (xx column + xy row + x, yx column + yy row + y).

    Each coefficient is a number, or a tensor `(N,)` with one for each picture.
    """
    count, height, width, channels = images.shape
    row = (torch.arange(height, device=images.device) + 0.5).view(1, height, 1)
    column = (torch.arange(width, device=images.device) + 0.5).view(1, 1, width)
    from_x = (_plane(xx) * column + _plane(xy) * row + _plane(x)).floor()
    from_y = (_plane(yx) * column + _plane(yy) * row + _plane(y)).floor()
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    pixels = from_y.clamp(0, height - 1) * width + from_x.clamp(0, width - 1)
    index = pixels.long().view(count, -1, 1).expand(-1, -1, channels)
    moved = images.reshape(count, -1, channels).gather(1, index).view_as(images)
    return moved * inside.unsqueeze(3)


def _plane(number: Tensor | float) -> Tensor | float:
    return number.view(-1, 1, 1) if isinstance(number, Tensor) else number


def _of_each(amounts: Tensor) -> Tensor:
    return amounts.view(-1, 1, 1, 1)


def _grey(images: Tensor) -> Tensor:
    if images.shape[3] == 1:
        return images.float()
    luma = torch.tensor(_LUMA, device=images.device)
    return (images.float() * luma).sum(dim=3, keepdim=True).floor()


def _away_from(other: Tensor, images: Tensor, amounts: Tensor) -> Tensor:
    """Return `other` + (1 + amount) (images - `other`), cut to whole values from 0 to 255."""
    factor = _of_each(1 + amounts)
    return (other + factor * (images - other)).clamp(0, 255).to(torch.uint8)
