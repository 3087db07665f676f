"""Pictures on the device that trains, and the precision it computes in."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

from worker.data import Split

_RESIDENT_BYTES = 4 * 2**30
"""A larger split stays in the cache on disk and travels batch by batch."""


class PlacedSplit:
    """A split whose batches are uint8 tensors on the device; normalising them is the model's first layer.

    On a CPU nothing is copied: the tensors are the cache's own memory.
    """

    def __init__(
        self, split: Split, device: torch.device, inputs: Tensor | None = None
    ) -> None:
        """Place a split; `inputs` stand for all its pictures where something was computed from them before."""
        self.device = device
        self._rows = None if split.rows is None else torch.from_numpy(split.rows)
        self._inputs = torch.from_numpy(split.images) if inputs is None else inputs
        self._labels = torch.from_numpy(split.labels).to(device)
        if self._inputs.nbytes <= _RESIDENT_BYTES:
            self._inputs = self._inputs.to(device)

    def __len__(self) -> int:
        return len(self._labels)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images `(n, H, W, C)` and labels `(n,)` of the rows given (a CPU tensor)."""
        places = rows if self._rows is None else self._rows[rows]
        inputs = self._inputs.index_select(0, places.to(self._inputs.device))
        labels = self._labels.index_select(0, rows.to(self.device))
        return inputs.to(self.device, non_blocking=True), labels


def row_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut row numbers into batches; the last may be smaller."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in bfloat16 where the device is built for it.

    What decides is the device alone and never a measurement, so that a training repeats bit by bit on machines of
    one kind.
    """
    if computes_in_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


@cache
def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether training on `device` runs in bfloat16: most GPUs, and CPUs with instructions for it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
