"""What a trial's model was measured to be, beside its objective value: its other metrics, and what it costs."""

from collections.abc import Sequence

import torch

from trimtab.contract.leases import Lease
from trimtab.contract.objectives import Constraint
from worker.data import TaskData
from worker.training.device.threads import computing_on
from worker.training.errors import MemoryUntold
from worker.training.loop.training import Training
from worker.training.model import costs
from worker.training.model.backbones import Backbone


def refuse_untold(lease: Lease, device: torch.device) -> None:
    """See that the device can tell the costs that the lease's study names, before anything is trained.

    Raises:
        MemoryUntold: It names the memory, and this device does not tell it.
    """
    if lease.kind == "trial" and "memory_bytes" in lease.costs and device.type != "cuda":
        raise MemoryUntold(str(device))


class Violates(Exception):
    """The model of a configuration violates a constraint: the trial ends before it is trained.

    Attributes:
        measured: The costs of the model that a constraint names, by their names.
    """

    def __init__(self, measured: dict[str, float]) -> None:
        super().__init__(f"the model violates a constraint: {measured}")
        self.measured = measured


def refuse_violating(model: Backbone, constraints: Sequence[Constraint]) -> None:
    """See that a model keeps the constraints on what is known before training.

    Args:
        model: The model with its head, as it is before training.
        constraints: The constraints; those on other things than `parameters` are left to the end of the training.

    Raises:
        Violates: It violates one.
    """
    found = {"parameters": float(costs.parameters(model))}
    named = [one for one in constraints if one.metric in found]
    if not all(one.keeps(found[one.metric]) for one in named):
        raise Violates(found)


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
