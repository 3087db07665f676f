"""What a training takes of its device's memory, and when that is news."""

from collections.abc import Sequence

import torch

from trimtab.contract.leases import Lease
from trimtab.contract.memory import MemoryFinding
from worker.data import TaskData
from worker.training.device import placement


class MemoryWatch:
    """Watches one training.

    Args:
        lease: The trial that is trained.
        seen: The data that it is trained on.
        device: The device that computes.
        memory_bytes: Our share of the device's memory.
        known: Findings about the trial's backbone.
        alone: True if nothing else trains in this process; what a training takes beside others cannot be told.
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
        self.first_micro_batch_size = pictures_that_fit(known, self._begun)
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
        input_size=seen.train.inputs.shape[1],
        precision=placement.precision_of(recipe.precision, device),
        frozen_stages=0 if recipe.unfreeze_every else recipe.frozen_stages,
        batch_size=recipe.batch_size,
    )


def pictures_that_fit(findings: Sequence[MemoryFinding], training: MemoryFinding) -> int | None:
    """Return how many pictures at once are known to fit where the whole batch is known not to; None where it may.

    What did not fit does not fit either with more stages to train, or on less memory.

    Args:
        findings: What is known about the backbone.
        training: The training that is about to begin; only what it asks for is looked at.
    """
    sizes = [
        found.micro_batch_size
        for found in findings
        if found.micro_batch_size is not None and _asks_no_less(training, found)
    ]
    least = min(sizes, default=None)
    return None if least is None or least >= training.batch_size else least


def _asks_no_less(training: MemoryFinding, found: MemoryFinding) -> bool:
    same = all(
        getattr(training, name) == getattr(found, name)
        for name in ("device", "backbone", "precision")
    )
    return (
        same
        and training.input_size >= found.input_size
        and training.frozen_stages <= found.frozen_stages
        and (training.memory_bytes or 0) <= (found.memory_bytes or 0)
    )
