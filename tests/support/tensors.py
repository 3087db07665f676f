"""Tensors of every kind that a training may have: of any type and shape, lying in memory in any way."""

import torch
from hypothesis import strategies as st
from torch import Tensor

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Contiguous, permuted, cut out of a larger one, expanded, without dimensions or without elements."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    whole = (
        torch.arange(1, 1 + torch.Size(shape).numel())
        .reshape(shape)
        .to(draw(st.sampled_from(DTYPES)))
    )
    whole = whole.permute(draw(st.permutations(range(len(shape)))))
    match draw(st.sampled_from(("as it is", "cut", "expanded"))):
        case "cut" if whole.dim() > 0:
            return whole[..., ::2]
        case "expanded":
            return whole.expand(3, *whole.shape)
        case _:
            return whole
