"""Pictures as a network takes them: normalised, in its number of channels, and of a side that it can take."""

import copy
from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import Tensor
from torch.nn import functional

from worker.training.model.card import ImageCard
from worker.training.model.inputs import InputLayer

_LUMA = (0.299, 0.587, 0.114)
"""Grey of red, green and blue (ITU-R BT.601), as Pillow converts."""


class ImageInput(InputLayer):
    """From uint8 pictures `(N, H, W, C)`, grey or colour, to floats `(N, channels, H, W)`.

    Args:
        mean: Mean of the pictures that the network was trained on, a channel each, in [0, 1].
        std: Their standard deviation, likewise.
        least_side: Smaller pictures are enlarged to it.
        only_side: All pictures are scaled to it; None keeps those that are large enough as they are.
        example_side: Side of pictures that the network is known to take.
    """

    mean: Tensor
    std: Tensor
    memory_format = torch.channels_last

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        least_side: int = 1,
        only_side: int | None = None,
        example_side: int = 8,
    ) -> None:
        super().__init__()
        self.least_side = least_side
        self.only_side = only_side
        self.example_side = example_side
        self.register_buffer("mean", _per_channel(mean), persistent=False)
        self.register_buffer("std", _per_channel(std), persistent=False)

    @classmethod
    def of(cls, card: ImageCard) -> Self:
        """Make the layer that `card` described, with the same bits."""
        return cls(
            card.mean,
            card.std,
            least_side=card.least_side,
            only_side=card.only_side,
            example_side=card.example_side,
        )

    def forward(self, stored: Tensor) -> Tensor:
        """Normalise pictures, and scale those that the network cannot take as they are."""
        x = stored.permute(0, 3, 1, 2).to(self.mean.dtype) / 255
        channels = self.mean.shape[1]
        if channels == 1 and x.shape[1] == 3:
            x = (x * _per_channel(_LUMA).to(x)).sum(dim=1, keepdim=True)
        # In place from here on: a batch of large pictures need not be in memory twice.
        x = (x - self.mean).div_(self.std)  # One grey channel spreads over three here.
        side = self.only_side or max(self.least_side, x.shape[-1])
        if side != x.shape[-1]:
            x = functional.interpolate(x, (side, side), mode="bilinear", antialias=True)
        return x

    def example(self, count: int) -> Tensor:
        """Return noise, which no layer of a network turns into the same number everywhere."""
        shape = (count, self.example_side, self.example_side, self.mean.shape[1])
        return torch.randint(
            256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )

    def resized_to(self, shape: Sequence[int]) -> Self:
        """Scale all pictures to the side of `shape` `(side, side, channels)`, where the network takes it."""
        layer = copy.deepcopy(self)
        # Pictures of a side that the network takes stay so: it then enlarges those that are too small.
        layer.only_side = self.only_side or max(self.least_side, shape[0])
        return layer

    def card(self) -> ImageCard:
        """Describe the layer; float32 to the last bit."""
        return ImageCard(
            kind="image",
            mean=_listed(self.mean),
            std=_listed(self.std),
            least_side=self.least_side,
            only_side=self.only_side,
            example_side=self.example_side,
        )


def _listed(values: Tensor) -> tuple[float, ...]:
    return tuple(cast(list[float], values.flatten().tolist()))


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)
