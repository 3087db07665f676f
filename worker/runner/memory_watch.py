"""Finds out how much device memory a training takes, for the trainings after it."""

from collections.abc import Sequence

import torch

from trimtab.contract.leases import Lease
from trimtab.contract.memory import MemoryFinding
from worker.data import TaskData
from worker.training.device import placement


class MemoryWatch:
    """Watches the memory of one training.

    Args:
        lease: The lease of the trial that is trained.
        seen: The data that it is trained on.
        device: The device that it is trained on.
        memory_bytes: The part of the device's memory that this process may use, in bytes.
        known: The earlier findings about its backbone.
        alone: Whether it is the only training of this process. Trainings of a group share the memory, so that nothing
            can be found out about one of them.
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
        self._demand = _demand_of(lease, seen, device, memory_bytes)
        self._last: MemoryFinding | None = None
        self.first_micro_batch_size = pictures_that_fit(known, self._demand)
        if alone and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @property
    def peak_bytes(self) -> int | None:
        """The most memory of the device that the training has taken; None where nothing tells that of it alone."""
        if not self._alone or self._device.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self._device)

    def news(self, micro_batch_size: int | None) -> MemoryFinding | None:
        """Return what an epoch has shown about memory, or None if it is the same as after the epoch before.

        Args:
            micro_batch_size: The number of pictures that were computed at once; None for the whole batch.
        """
        cuda = self._device.type == "cuda"
        # torch tells the peak of a GPU's memory only. On a CPU it is worth reporting only that a batch did not fit.
        if not self._alone or (not cuda and micro_batch_size is None):
            return None
        found = self._demand.model_copy(update={"micro_batch_size": micro_batch_size})
        if found == self._last:
            return None
        self._last = found
        peak = torch.cuda.max_memory_allocated(self._device) if cuda else None
        return found.model_copy(update={"peak_bytes": peak})


def _demand_of(
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
    """Return how many pictures can be computed at once if the whole batch is known not to fit; None if it may fit.

    A batch that did not fit does not fit either with more stages to train, or in less memory.

    Args:
        findings: The earlier findings about the backbone.
        training: The demands of the training; its results, such as the peak, are not looked at.
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
