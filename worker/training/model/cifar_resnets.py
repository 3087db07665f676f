"""The residual networks for CIFAR-10 of He et al. (2016), https://arxiv.org/abs/1512.03385, section 4.2.

6n + 2 layers on 32 x 32 pixels; shortcuts without parameters (option A). Modules are named as in the weights that
https://github.com/akamaster/pytorch_resnet_cifar10 publishes.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from worker.training.model.architecture import Architecture
from worker.training.model.image_input import ImageInput

SIDE = 32
"""Pixels along a side of the pictures that the published weights were made for."""
_WIDTHS = (16, 32, 64)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's channels in [0, 1], which the published weights were trained with."""
_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_URL = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models"
_PUBLISHED = {
    "cifar_resnet20": "resnet20-12fca82f.th",
    "cifar_resnet32": "resnet32-d509ac18.th",
    "cifar_resnet44": "resnet44-014dd654.th",
    "cifar_resnet56": "resnet56-4bfd9763.th",
    "cifar_resnet110": "resnet110-1d1ed7c2.th",
}
"""File names with the beginning of their sha256."""


class Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut: every second pixel, and new channels of zeros on both sides."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.new = (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs, H, W)` to `(N, outputs, H / stride, W / stride)`."""
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.new:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.new, self.new))
        return functional.relu(y + x, inplace=True)


class CifarResNet(nn.Module):
    """A stem, three stages of n blocks of which the last two halve the sides, the mean, a linear head."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        blocks = (depth - 2) // 6
        self.layer1 = _stage(_WIDTHS[0], _WIDTHS[0], blocks)
        self.layer2 = _stage(_WIDTHS[0], _WIDTHS[1], blocks)
        self.layer3 = _stage(_WIDTHS[1], _WIDTHS[2], blocks)
        self.linear = nn.Linear(_WIDTHS[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, H, W)` to logits `(N, classes)`."""
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return cast(Tensor, self.linear(x.mean(dim=(2, 3))))


def architecture(name: str, classes: int) -> Architecture:
    """Build one with random weights and a head for `classes`."""
    return Architecture(
        network=CifarResNet(int(name.removeprefix("cifar_resnet")), classes),
        head="linear",
        stages=(("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",)),
        input=ImageInput(_MEAN, _STD),
        weights_url=f"{_URL}/{_PUBLISHED[name]}",
        weights_classes=_CLASSES,
    )


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    rest = (Block(outputs, outputs) for _ in range(blocks - 1))
    return nn.Sequential(Block(inputs, outputs), *rest)
