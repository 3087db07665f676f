"""What a trial's model was measured to be, beside its objective value: its other metrics, and what it costs."""

from collections.abc import Sequence
from statistics import median

import torch

from trimtab.contract.leases import Lease
from trimtab.contract.objectives import Constraint, Cost
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


TOO_SLOW = 2.0
"""A model is refused before training if even its fastest pass takes so many times as long as its bound.

Other work on the machine only lengthens a pass, so that the fastest one is least in error; beside four busy processes a
core it still took up to 1.8 times as long as the median after training.
"""


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
        constraints: The constraints; those on other things than `parameters` are left to later.

    Raises:
        Violates: It violates one.
    """
    found = _size(model)
    named = [one for one in constraints if one.metric in found]
    if not all(one.keeps(found[one.metric]) for one in named):
        raise Violates(found)


def refuse_slow(seen: TaskData, training: Training, constraints: Sequence[Constraint]) -> None:
    """See that the model of a training that has not begun is not clearly slower than a constraint allows.

    Whether it keeps the bound is said by what is measured when the training is over; this spares trainings in vain.

    Args:
        seen: The data; one sample of them is computed.
        training: The training, with the threads that it has chosen.
        constraints: The constraints; what bounds no `latency_ms` from above is left alone.

    Raises:
        Violates: Even the fastest pass takes more than `TOO_SLOW` times the bound.
    """
    most = min(_most(constraints, "latency_ms"), default=None)
    if most is None:
        return
    learner = training.learner
    sample, precision = _sample(seen, training), learner.recipe.precision
    with computing_on(training.threads.steps):
        passes = costs.passes_ms(learner.model, sample, precision=precision)
    if min(passes) > TOO_SLOW * most:
        raise Violates({"latency_ms": median(passes), **_size(learner.model)})


def refuse_large(
    peak_bytes: int | None, model: Backbone, constraints: Sequence[Constraint]
) -> None:
    """See that the first batch of a training took no more memory than a constraint allows.

    The peak of a training never falls, so that one which has violated its bound by then violates it in the end.

    Args:
        peak_bytes: The most memory of the device that the training has taken, in bytes; None where nothing tells it.
        model: The model that is trained.
        constraints: The constraints; what bounds no `memory_bytes` from above is left alone.

    Raises:
        Violates: It took more.
    """
    if peak_bytes is not None and any(
        peak_bytes > most for most in _most(constraints, "memory_bytes")
    ):
        raise Violates({"memory_bytes": float(peak_bytes), **_size(model)})


def _most(constraints: Sequence[Constraint], cost: Cost) -> list[float]:
    return [one.max for one in constraints if one.metric == cost and one.max is not None]


def _sample(seen: TaskData, training: Training) -> torch.Tensor:
    return torch.from_numpy(seen.train.inputs[:1]).to(training.learner.device)


def _size(model: Backbone) -> dict[str, float]:
    return {"parameters": float(costs.parameters(model))}


def measured(seen: TaskData, training: Training, lease: Lease) -> dict[str, float]:
    """Return the metrics of the kept epoch and the costs of a training that is over, by their names.

    The objective is the trial's value, which may be the mean of several epochs. The latency is measured only where the
    lease's study names it: of the fastest trainings it would be a large part.
    """
    model, progress = training.learner.model, training.progress
    found = {
        **progress.kept_metrics,
        training.learner.objective.metric: progress.value,
        **_size(model),
        "train_seconds": progress.seconds,
    }
    if "latency_ms" in lease.costs:
        sample = _sample(seen, training)
        with computing_on(training.threads.steps):
            found["latency_ms"] = costs.latency_ms(
                model, sample, precision=lease.recipe.precision
            )
    return found
