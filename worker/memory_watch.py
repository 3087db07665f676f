"""What a training takes of its device's memory, and when that is news."""

from collections.abc import Sequence

import torch

from trimtab.contract.leases import Lease
from trimtab.contract.memory import MemoryFinding
from worker.data import TaskData
from worker.memory import pictures_that_fit
from worker.training import placement


class MemoryWatch:
    """Watches one training.

    Args:
        lease: what is trained.
        seen: on what.
        device: where.
        memory_bytes: our share of its memory.
        known: findings about its backbone.
        alone: whether nothing else trains in this process; of what trains beside others, nothing can be told.
    """

    def __init__(
        self,
        lease: Lease,
        seen: TaskData,
        device: torch.device,
        memory_bytes: int,
        known: Sequence[MemoryFinding],
        *,
        alone: bool = True,
    ) -> None:
        self._device = device
        self._alone = alone
        self._begun = _asked(lease, seen, device, memory_bytes)
        self._told: MemoryFinding | None = None
        self.first_portion = pictures_that_fit(known, self._begun)
        if alone and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def news(self, micro_batch_size: int | None) -> MemoryFinding | None:
        """Return what an epoch has shown, once: on a GPU always, elsewhere only where memory was short."""
        cuda = self._device.type == "cuda"
        if not self._alone or (not cuda and micro_batch_size is None):
            return None
        found = self._begun.model_copy(update={"micro_batch_size": micro_batch_size})
        if found == self._told:
            return None
        self._told = found
        peak = torch.cuda.max_memory_allocated(self._device) if cuda else None
        return found.model_copy(update={"peak_bytes": peak})


def _asked(
    lease: Lease, seen: TaskData, device: torch.device, memory_bytes: int
) -> MemoryFinding:
    cuda, recipe = device.type == "cuda", lease.recipe
    return MemoryFinding(
        device=torch.cuda.get_device_name(device) if cuda else "cpu",
        memory_bytes=memory_bytes,
        backbone=lease.model.backbone,
        image_size=seen.train.images.shape[1],
        precision=placement.precision_of(recipe.precision, device),
        frozen_stages=0 if recipe.unfreeze_every else recipe.frozen_stages,
        batch_size=recipe.batch_size,
    )
