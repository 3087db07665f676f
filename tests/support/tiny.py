"""A network small enough to train hundreds of times in a test."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from worker.data import TaskData
from worker.training.model.backbones import Architecture, Backbone
from worker.training.model.heads import LINEAR, Head
from worker.training.model.image_input import ImageInput
from worker.training.seeding import seeded

CPU = torch.device("cpu")


class TinyNet(nn.Module):
    """All that makes training hard to repeat: dropout, and batch norm, once over single values."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm1d(6 * 4)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(6 * 4, classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 1, 8, 8)` to `(N, classes)`."""
        x = torch.relu(self.conv2(torch.relu(self.bn(self.conv(x)))))
        return cast(Tensor, self.fc(self.drop(self.bn2(x.flatten(1)))))


def tiny_backbone(data: TaskData, *, seed: int = 0, head: Head = LINEAR) -> Backbone:
    """A fresh one, the same for the same seed."""
    with seeded(seed):
        network = TinyNet(len(data.outputs))
    stages = (("conv", "bn"), ("conv2", "bn2"))
    architecture = Architecture(network, "fc", stages, ImageInput((0.4,), (0.3,)))
    backbone = Backbone("tiny", data.outputs, architecture)
    backbone.put_head(head)
    backbone.draw_head(seed)
    return backbone


def plain_backbone(data: TaskData, *, head: Head = LINEAR) -> Backbone:
    """A fresh one whose head is a layer on what one frozen convolution makes of 8 x 8 pictures: 64 features."""
    with seeded(0):
        conv, fc = nn.Conv2d(1, 4, 2, stride=2), nn.Linear(4 * 16, len(data.outputs))
    network = nn.Sequential()
    for name, module in (("conv", conv), ("flat", nn.Flatten()), ("fc", fc)):
        network.add_module(name, module)
    architecture = Architecture(network, "fc", (("conv",),), ImageInput((0.4,), (0.3,)))
    backbone = Backbone("plain", data.outputs, architecture)
    backbone.put_head(head)
    backbone.draw_head(0)
    return backbone


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of tensors have the same names, types and bits."""
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and torch.equal(value, other[name])
        for name, value in one.items()
    )


@contextmanager
def memory_for(pictures: int) -> Generator[None]:
    """A device that takes so many pictures at once, which shows in a network's second layer."""

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if (
            isinstance(module, nn.Conv2d)
            and module.in_channels > 1
            and len(inputs[0]) > pictures
        ):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = register_module_forward_pre_hook(look)
    try:
        yield
    finally:
        hook.remove()
