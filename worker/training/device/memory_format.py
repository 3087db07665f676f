"""Views of tensors in the order in which they lie in memory.

Fused kernels and matrix products copy a tensor first that is not contiguous in the order of its dimensions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def in_memory_order(tensor: Tensor, parameter: Tensor) -> Tensor:
    """View a tensor of a parameter's shape, such as its gradient, so that a channels-last one is contiguous."""
    return tensor.permute(0, 2, 3, 1) if _is_channels_last(parameter) else tensor


def as_matrix(tensor: Tensor, parameter: Tensor) -> Tensor:
    """View a tensor `(N, ...)` as a matrix `(N, rest)` whose columns are in the memory order of the parameter."""
    return in_memory_order(tensor, parameter).view(len(tensor), -1)


def laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Return a tensor with the memory order of the parameter, so that `as_matrix` gives both the same columns."""
    last = _is_channels_last(parameter)
    return tensor.contiguous(memory_format=torch.channels_last) if last else tensor


def dimension_order(tensor: Tensor) -> tuple[int, ...]:
    """Return a tensor's dimensions in memory order, outermost first; a dense tensor permuted so is contiguous."""
    return tuple(sorted(range(tensor.dim()), key=lambda dimension: -tensor.stride(dimension)))


def from_dimension_order(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """Undo the permutation of a tensor to `order`.

    Raises:
        ValueError: `order` is not a permutation of this tensor's dimensions.
    """
    if sorted(order) != list(range(tensor.dim())):
        raise ValueError(f"{list(order)} is not an order of {tensor.dim()} dimensions")
    return tensor.permute([order.index(dimension) for dimension in range(tensor.dim())])


def _is_channels_last(parameter: Tensor) -> bool:
    return parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
