"""Convolutions with many weights over maps of a few pixels, as one matrix product.

oneDNN convolves picture by picture: over 2 x 2 pixels it reorders a million weights for four rows of output, and the
last stage of a ResNet on small pictures costs more than all before it. As one product over the whole batch the same
sums (products of bfloat16, added in float32) take a third to a sixth of the time.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

_LEAST_WEIGHTS = 2**20
"""The fewest weights of a convolution. Measured: with fewer, one product gains nothing."""
_MOST_PIXELS = 16
"""The most pixels of an output map. Measured: with more, one product gains nothing."""


def adopt(network: nn.Module) -> None:
    """Let the convolutions of a network that have weights enough look at the size of their maps."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            # Its class and not the module: names, hooks and references to the layer stay what they were.
            module.__class__ = _Conv2d


def _is_plain(layer: nn.Conv2d) -> bool:
    return (
        layer.weight.numel() >= _LEAST_WEIGHTS
        and (layer.groups, *layer.dilation, layer.padding_mode) == (1, 1, 1, "zeros")
        and not isinstance(layer.padding, str)
    )


class _Conv2d(nn.Conv2d):
    """A convolution that is one product where that is faster: in bfloat16 on a CPU, over small maps."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """`(N, C, H, W)` to `(N, O, H', W')`."""
        if not (_in_bfloat16(input) and _pixels(self, input) <= _MOST_PIXELS):
            return super().forward(input)
        weight = self.weight.to(torch.bfloat16)
        product = cast(Any, _Product).apply(
            input.to(torch.bfloat16), weight, self.stride, self.padding
        )
        bias = self.bias
        return product if bias is None else product + bias.to(torch.bfloat16)[:, None, None]


def _in_bfloat16(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def _pixels(layer: nn.Conv2d, x: Tensor) -> int:
    padding = cast(tuple[int, int], layer.padding)
    sides = zip(x.shape[2:], padding, layer.kernel_size, layer.stride, strict=True)
    height, width = ((side + 2 * pad - kernel) // step + 1 for side, pad, kernel, step in sides)
    return height * width


class _Product(Function):
    """The convolution without its bias: every output pixel's window is a row of one matrix."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        high, wide = padding
        padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, wide, wide, high, high))
        windows = padded.unfold(1, weight.shape[2], stride[0])
        windows = windows.unfold(2, weight.shape[3], stride[1]).permute(0, 1, 2, 4, 5, 3)
        # One row for each output pixel; the only copy that is made.
        rows = windows.reshape(windows.shape[:3].numel(), -1)
        matrix = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
        ctx.save_for_backward(rows, matrix)
        ctx.shapes = padded.shape, windows.shape, stride, padding
        return (rows @ matrix.t()).view(*windows.shape[:3], -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, matrix = cast(tuple[Tensor, Tensor], ctx.saved_tensors)
        of_rows = cast(Tensor, gradients[0]).permute(0, 2, 3, 1).reshape(len(rows), -1)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _folded(of_rows @ matrix, *ctx.shapes)
        if ctx.needs_input_grad[1]:
            kernel = cast(torch.Size, ctx.shapes[1])[3:]
            of_weight = (of_rows.t() @ rows).view(-1, *kernel).permute(0, 3, 1, 2)
        return of_x, of_weight, None, None


def _folded(
    windows: Tensor,
    padded: torch.Size,
    shape: torch.Size,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """Add up what all windows say of each pixel: the gradient of cutting them out."""
    windows = windows.view(shape)
    _, height, width, kernel_height, kernel_width, _ = shape
    pixels = windows.new_zeros(padded)
    # A loop over the few places of a kernel, each over all windows at once: within one place no two windows share a
    # pixel.
    for row in range(kernel_height):
        for column in range(kernel_width):
            rows = slice(row, row + stride[0] * height, stride[0])
            columns = slice(column, column + stride[1] * width, stride[1])
            pixels[:, rows, columns] += windows[:, :, :, row, column]
    high, wide = padding
    inner = pixels[:, high : padded[1] - high, wide : padded[2] - wide]
    return inner.permute(0, 3, 1, 2)
