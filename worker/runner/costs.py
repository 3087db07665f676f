"""What a trial's model was measured to be, beside its objective value: its other metrics, and what it costs."""

import torch

from trimtab.contract.leases import Lease
from worker.data import TaskData
from worker.training.device.threads import computing_on
from worker.training.errors import MemoryUntold
from worker.training.loop.training import Training
from worker.training.model import costs


def refuse_untold(lease: Lease, device: torch.device) -> None:
    """See that the device can tell the costs that the lease's study names, before anything is trained.

    Raises:
        MemoryUntold: It names the memory, and this device does not tell it.
    """
    if lease.kind == "trial" and "memory_bytes" in lease.costs and device.type != "cuda":
        raise MemoryUntold(str(device))


def measured(seen: TaskData, training: Training, lease: Lease) -> dict[str, float]:
    """Return the metrics of the kept epoch and the costs of a training that is over, by their names.

    The objective is the trial's value, which may be the mean of several epochs. The latency is measured only where the
    lease's study names it: of the fastest trainings it would be a large part.
    """
    model, progress = training.learner.model, training.progress
    found = {
        **progress.kept_metrics,
        training.learner.objective.metric: progress.value,
        "parameters": float(costs.parameters(model)),
        "train_seconds": progress.seconds,
    }
    if "latency_ms" in lease.costs:
        sample = torch.from_numpy(seen.train.inputs[:1]).to(training.learner.device)
        with computing_on(training.threads.steps):
            found["latency_ms"] = costs.latency_ms(
                model, sample, precision=lease.recipe.precision
            )
    return found
