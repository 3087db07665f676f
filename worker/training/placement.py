"""Pictures on the device that trains, and the precision it computes in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from worker.data import Split

_RESIDENT_BYTES = 4 * 2**30
"""A larger split stays in the cache on disk and travels batch by batch."""


class PlacedSplit:
    """A split whose batches are uint8 tensors on the device; normalising them is the model's first layer.

    On a CPU nothing is copied: the tensors are the cache's own memory.
    """

    def __init__(self, split: Split, device: torch.device) -> None:
        self.device = device
        self._images = torch.from_numpy(split.images)
        self._labels = torch.from_numpy(split.labels).to(device)
        if split.images.nbytes <= _RESIDENT_BYTES:
            self._images = self._images.to(device)

    def __len__(self) -> int:
        return len(self._labels)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images `(n, H, W, C)` and labels `(n,)` of the rows given (a CPU tensor)."""
        images = self._images.index_select(0, rows.to(self._images.device))
        labels = self._labels.index_select(0, rows.to(self.device))
        return images.to(self.device, non_blocking=True), labels


def row_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut row numbers into batches; the last may be smaller."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in bfloat16 where a GPU has it; on a CPU in float32, which repeats bit by bit."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()
