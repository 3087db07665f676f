"""Samples on the device that trains, and the precision it computes in."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal, cast

import torch
from torch import Tensor

from worker.data import Split
from worker.training.errors import is_out_of_memory

_RESIDENT_BYTES = 4 * 2**30
"""A larger split stays in the cache on disk, and each batch is sent on its own; so is a split that does not fit."""


class PlacedSplit:
    """A split whose batches are tensors on the device, as they are stored; the model's first layer (`InputLayer`) does the rest.

    On a CPU nothing is copied: the tensors share the memory of the cache.

    Attributes:
        device: The device that takes the batches.
        full_precision: Whether what follows is computed in float32 whatever the recipe says.
        lengths: The length of each sample, `(N,)`, in the order of the labels; None where all are of one size.
    """

    def __init__(
        self,
        split: Split,
        device: torch.device,
        inputs: Tensor | None = None,
        *,
        full_precision: bool = False,
        lengths: Tensor | None = None,
    ) -> None:
        """Place a split.

        Args:
            split: Samples and labels.
            device: The device that takes the batches.
            inputs: Stand for all its samples if something was computed from them before.
            full_precision: Compute in float32: with these inputs so little is computed that casting costs more than
                it saves.
            lengths: The length of each of its samples, `(N,)`; None where all are of one size.
        """
        self.device = device
        self.full_precision = full_precision
        self._rows = None if split.rows is None else torch.from_numpy(split.rows)
        self._inputs = torch.from_numpy(split.inputs) if inputs is None else inputs
        self.lengths = lengths if lengths is None or self._rows is None else lengths[self._rows]
        self._labels = torch.from_numpy(split.labels).to(device)
        if self._inputs.nbytes <= _RESIDENT_BYTES:
            self._inputs = _placed(self._inputs, device)

    def __len__(self) -> int:
        return len(self._labels)

    def autocast(self, precision: str = "auto") -> AbstractContextManager[object]:
        """Return the context that computes these inputs in the precision of the recipe."""
        return nullcontext() if self.full_precision else autocast(self.device, precision)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return samples `(n, ...)` and their labels `(n, ...)`, for row numbers (a CPU tensor)."""
        places = rows if self._rows is None else self._rows[rows]
        inputs = self._inputs.index_select(0, sent(places, self._inputs.device))
        labels = self._labels.index_select(0, sent(rows, self.device))
        return sent(inputs, self.device), labels


def _placed(inputs: Tensor, device: torch.device) -> Tensor:
    """Return the inputs on the device, or where they are if the device has no room for them."""
    try:
        return inputs.to(device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return inputs


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on `device`, without waiting for a GPU: it would idle between one step and the next."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


_POOL = 8
"""Batches that are filled together: enough that padding is rare, few enough that batches differ from epoch to epoch."""


def by_length(count: int, lengths: Tensor | None) -> Tensor:
    """Return the order in which all samples are computed with the least padding: the shortest first."""
    return torch.arange(count) if lengths is None else lengths.argsort(stable=True)


def put_back(computed: Sequence[Tensor], order: Tensor) -> Tensor:
    """Return what was computed of samples in an order, batch by batch, in the samples' own order."""
    return torch.cat(list(computed))[order.argsort().to(computed[0].device)]


def drawn_batches(order: Tensor, batch_size: int, lengths: Tensor | None) -> list[Tensor]:
    """Cut the order of an epoch into batches; where samples have lengths, those of about one length share a batch.

    The samples of the epoch are the same either way. Draws a number from torch's generator where there are lengths.

    Args:
        order: Row numbers of the epoch's samples, drawn at random.
        batch_size: The number of samples in a batch.
        lengths: The length of each row, by its number; None where all are of one size.
    """
    if lengths is None:
        return row_batches(order, batch_size)
    pools = row_batches(order, _POOL * batch_size)
    sorted_pools = [pool[lengths[pool].argsort(stable=True)] for pool in pools]
    batches = [batch for pool in sorted_pools for batch in row_batches(pool, batch_size)]
    # Not from the shortest to the longest: the order of the steps tells nothing of the lengths.
    return [batches[place] for place in cast(list[int], torch.randperm(len(batches)).tolist())]


def row_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut row numbers into batches; the last may be smaller."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def autocast(device: torch.device, precision: str = "auto") -> AbstractContextManager[object]:
    """Return the context that computes in the precision of the recipe on `device`."""
    dtype = dtype_of(precision, device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that `device` computes in for a recipe's `precision`; float32 if it has no support for it.

    The device alone decides, never a measurement, so that a training repeats bit by bit on machines of one kind.
    """
    if precision in ("auto", "bfloat16") and computes_in_bfloat16(device):
        return torch.bfloat16
    if precision in ("auto", "float16") and device.type == "cuda":
        return torch.float16
    return torch.float32


def precision_of(
    precision: str, device: torch.device
) -> Literal["float32", "bfloat16", "float16"]:
    """Return the name in a recipe of what `dtype_of` returns; never `auto`."""
    dtype = dtype_of(precision, device)
    if dtype == torch.bfloat16:
        return "bfloat16"
    return "float16" if dtype == torch.float16 else "float32"


@cache
def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether `device` is built for bfloat16: GPUs from Ampere on, and CPUs with instructions for it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
