"""Tensors in the order in which they lie in memory: what is not, fused kernels and matrix products copy first."""

from collections.abc import Sequence

import torch
from torch import Tensor


def in_memory_order(tensor: Tensor, parameter: Tensor) -> Tensor:
    """View what has a parameter's shape, such as its gradient: contiguous where the parameter is channels-last."""
    return tensor.permute(0, 2, 3, 1) if _is_channels_last(parameter) else tensor


def as_matrix(tensor: Tensor, parameter: Tensor) -> Tensor:
    """View a tensor as a matrix with a row for each of its first index, its columns in the parameter's memory order."""
    return in_memory_order(tensor, parameter).view(len(tensor), -1)


def laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Return a tensor whose view as a matrix has its columns in the order of the parameter's."""
    last = _is_channels_last(parameter)
    return tensor.contiguous(memory_format=torch.channels_last) if last else tensor


def dimension_order(tensor: Tensor) -> tuple[int, ...]:
    """Return a tensor's dimensions as they lie in memory, the outermost first: permuted so, a dense one is contiguous."""
    return tuple(sorted(range(tensor.dim()), key=lambda dimension: -tensor.stride(dimension)))


def from_dimension_order(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """Undo the permutation of a tensor to `order`.

    Raises:
        ValueError: It is no order of this tensor's dimensions.
    """
    if sorted(order) != list(range(tensor.dim())):
        raise ValueError(f"{list(order)} is no order of {tensor.dim()} dimensions")
    return tensor.permute([order.index(dimension) for dimension in range(tensor.dim())])


def _is_channels_last(parameter: Tensor) -> bool:
    return parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
