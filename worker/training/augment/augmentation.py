"""Augmentation: random changes to training pictures or texts, a batch at a time, on the device where they lie.

All random numbers are drawn on the CPU from torch's generator, which the caller seeds, so that one seed changes the
same pictures in the same way on every device.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trimtab.contract.recipe import Recipe
from worker.data.images.encoding import Images
from worker.training.augment import image_operations
from worker.training.augment.image_operations import Operation
from worker.training.augment.words import WordDropout
from worker.training.model.card import InputCard, TokenCard
from worker.training.objective.objectives import Objective

_BINS = 31
"""The number of amounts that TrivialAugment chooses from, evenly spaced from 0 to the largest."""
_RAND_OPERATIONS = 2
_ERASED_AREA = (0.02, 0.33)
_ERASED_ASPECT = (0.3, 3.3)
_ERASING_TRIES = 10
_LEAST_ALPHA = 1e-3
"""A Beta distribution with this alpha is a coin toss already; smaller values underflow."""

Change = Callable[[Tensor], Tensor]
"""A function from uint8 pictures `(N, H, W, C)` to pictures of the same shape."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The pictures and labels of one step.

    Attributes:
        inputs: Stored samples `(N, ...)`.
        labels: Their labels, `(N, ...)`.
        partners: Labels of what is blended into each sample; None if nothing is.
        weight: Share of `labels` in the loss, in [0, 1]; the partners have the rest.
    """

    inputs: Tensor
    labels: Tensor
    partners: Tensor | None = None
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.inputs)

    def part(self, rows: slice) -> "Batch":
        """Return some of the samples with their labels."""
        partners = None if self.partners is None else self.partners[rows]
        return Batch(self.inputs[rows], self.labels[rows], partners, self.weight)

    def loss(self, objective: Objective, outputs: Tensor) -> Tensor:
        """Return the mean loss of the outputs `(N, width)`."""
        loss = objective.loss(outputs, self.labels)
        if self.partners is None:
            return loss
        return self.weight * loss + (1 - self.weight) * objective.loss(outputs, self.partners)


class Augmentation:
    """Changes a batch as a recipe says: first each picture, then boxes of some; then pairs are blended."""

    def __init__(self, changes: Sequence[Change], *, mixup: float, cutmix: float) -> None:
        self._changes = changes
        self._mixup = mixup
        self._cutmix = cutmix

    def __call__(self, images: Tensor, labels: Tensor) -> Batch:
        """Return the changed batch; `images` is not changed."""
        for change in self._changes:
            images = change(images)
        if self._cutmix and (not self._mixup or _coin()):
            return cut_mixed(images, labels, self._cutmix)
        if self._mixup:
            return mixed_up(images, labels, self._mixup)
        return Batch(images, labels)


def is_wanted(recipe: Recipe, modality: str) -> bool:
    """Whether a recipe has samples of this kind changed at random."""
    if modality != Images.name:
        return recipe.word_dropout > 0
    return of(recipe, modality) is not None


def of(recipe: Recipe, modality: str, taken: InputCard | None = None) -> Augmentation | None:
    """Return what a recipe asks for; None where it asks for nothing.

    Args:
        recipe: The recipe. Its fields about pictures are read for pictures alone, and those about words for texts.
        modality: Name of the kind of data (`TaskData.modality`).
        taken: The network's input layer, which tells the word pieces apart where samples are texts.

    Raises:
        NoUnknownWord: Words are to be dropped, and the vocabulary has no piece that stands for an unknown one.
    """
    if modality != Images.name:
        if not recipe.word_dropout or not isinstance(taken, TokenCard):
            return None
        return Augmentation([WordDropout(taken, recipe.word_dropout)], mixup=0, cutmix=0)
    named: Mapping[str, Sequence[Change]] = {
        "none": (),
        "flip": (flipped,),
        "flip_crop": (cropped, flipped),
        "trivial": (trivially_changed,),
        "rand": (partial(rand_changed, strength=recipe.augmentation_strength),),
    }
    changes = [*named[recipe.augmentation]]
    if recipe.random_erasing:
        changes.append(partial(erased, probability=recipe.random_erasing))
    if not (changes or recipe.mixup or recipe.cutmix):
        return None
    return Augmentation(changes, mixup=recipe.mixup, cutmix=recipe.cutmix)


def flipped(images: Tensor) -> Tensor:
    """Mirror half of the pictures, left to right."""
    mirrored = (torch.rand(len(images)) < 0.5).to(images.device)
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(2), images)


def cropped(images: Tensor) -> Tensor:
    """Shift each picture by up to an eighth of its side in both directions; its mirror image fills the border."""
    count, height, width, channels = images.shape
    rows, columns = _shifted(count, height), _shifted(count, width)
    pixels = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).to(images.device)
    index = pixels.view(count, -1, 1).expand(-1, -1, channels)
    return images.reshape(count, -1, channels).gather(1, index).view_as(images)


def trivially_changed(images: Tensor) -> Tensor:
    """Change each picture by one operation with a random amount.

    Source: TrivialAugment, Mueller and Hutter, 2021, https://arxiv.org/abs/2103.10158.
    """
    amounts = torch.randint(_BINS, (len(images),)) / (_BINS - 1)
    return _distorted(images, amounts, image_operations.TRIVIAL)


def rand_changed(images: Tensor, *, strength: float) -> Tensor:
    """Change each picture by two operations of one strength in [0, 1].

    Source: RandAugment, Cubuk et al., 2020, https://arxiv.org/abs/1909.13719.
    """
    for _ in range(_RAND_OPERATIONS):
        amounts = torch.full((len(images),), strength)
        images = _distorted(images, amounts, image_operations.RAND)
    return images


def erased(images: Tensor, *, probability: float) -> Tensor:
    """Fill a box of some pictures with noise.

    Source: random erasing, Zhong et al., 2020, https://arxiv.org/abs/1708.04896, algorithm 1.

    Args:
        images: The pictures, uint8 `(N, H, W, C)`; they are not changed.
        probability: The probability that a picture is chosen. A chosen picture stays whole if ten boxes do not fit.
    """
    images = images.clone()
    _, height, width, channels = images.shape
    chosen = (torch.rand(len(images)) < probability).nonzero().flatten()
    for row in map(int, chosen):
        box = _box_to_erase(height, width)
        if box is not None:
            top, left, tall, wide = box
            noise = torch.randint(256, (tall, wide, channels), dtype=torch.uint8)
            images[row, top : top + tall, left : left + wide] = noise.to(images.device)
    return images


def mixed_up(images: Tensor, labels: Tensor, alpha: float) -> Batch:
    """Blend each picture with another one of the batch, rounded to whole values.

    Source: mixup, Zhang et al., 2018, https://arxiv.org/abs/1710.09412.
    """
    weight, order = _beta(alpha), torch.randperm(len(images)).to(images.device)
    others = images.index_select(0, order).float()
    blend = others.lerp_(images.float(), weight).round_().to(torch.uint8)
    return Batch(blend, labels, labels[order], weight)


def cut_mixed(images: Tensor, labels: Tensor, alpha: float) -> Batch:
    """Fill a box of each picture from another one of the batch; the weight is the share of the area that is left.

    Source: CutMix, Yun et al., 2019, https://arxiv.org/abs/1905.04899.
    """
    _, height, width, _ = images.shape
    order = torch.randperm(len(images)).to(images.device)
    share = (1 - _beta(alpha)) ** 0.5
    top, bottom = _stretch(height, share)
    left, right = _stretch(width, share)
    cut = images.clone()
    cut[:, top:bottom, left:right] = images[:, top:bottom, left:right].index_select(0, order)
    weight = 1 - (bottom - top) * (right - left) / (height * width)
    return Batch(cut, labels, labels[order], weight)


def _distorted(images: Tensor, amounts: Tensor, space: Mapping[str, Operation]) -> Tensor:
    """Change each picture by a random operation; `amounts` `(N,)` are shares of its largest amount."""
    chosen = torch.randint(len(space), (len(images),))
    signs = torch.randint(2, (len(images),)) * 2 - 1
    groups: list[Tensor] = []
    changed: list[Tensor] = []
    for number, operation in enumerate(space.values()):
        rows = torch.nonzero(chosen == number).flatten()
        if len(rows):
            amount = amounts[rows] * operation.most(images.shape[1])
            amount = amount * signs[rows] if operation.signed else amount
            group = images.index_select(0, rows.to(images.device))
            changed.append(operation.apply(group, amount.to(images.device)))
            groups.append(rows)
    back = torch.cat(groups).argsort().to(images.device)
    return torch.cat(changed).index_select(0, back)


def _shifted(count: int, side: int) -> Tensor:
    """Return the pixel that each pixel along a side is taken from, `(count, side)`, mirrored at both ends."""
    most = side // 8
    places = torch.arange(side) + torch.randint(-most, most + 1, (count, 1))
    return (side - 1) - ((side - 1) - places.abs()).abs()


def _box_to_erase(height: int, width: int) -> tuple[int, int, int, int] | None:
    """Return top, left, height and width of a box that fits; None if none does in ten tries."""
    low, high = (torch.tensor(bound).log() for bound in _ERASED_ASPECT)
    for _ in range(_ERASING_TRIES):
        area = height * width * float(torch.empty(()).uniform_(*_ERASED_AREA))
        aspect = float(torch.empty(()).uniform_(float(low), float(high)).exp())
        tall, wide = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < tall < height and 0 < wide < width:
            return _below(height - tall + 1), _below(width - wide + 1), tall, wide
    return None


def _stretch(side: int, share: float) -> tuple[int, int]:
    """Return beginning and end of a stretch around a random middle, cut off at the border."""
    middle, half = _below(side), int(side * share) // 2
    return max(0, middle - half), min(side, middle + half)


def _beta(alpha: float) -> float:
    alpha = max(alpha, _LEAST_ALPHA)
    return float(torch.distributions.Beta(alpha, alpha).sample())


def _below(limit: int) -> int:
    return int(torch.randint(limit, ()))


def _coin() -> bool:
    return bool(torch.rand(()) < 0.5)
