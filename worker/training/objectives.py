"""What a network's last layer is trained for, and what it is measured by."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from trimtab.contract.metrics import Direction
from trimtab.contract.recipe import Recipe
from worker.data import TaskData


class Objective(Protocol):
    """From the outputs of a network's last layer `(N, width)` and the labels of a split to losses and metrics."""

    @property
    def metric(self) -> str:
        """Name of what trials are compared by."""
        ...

    @property
    def direction(self) -> Direction:
        """Whether more or less of it is better."""
        ...

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over a batch, which training lowers."""
        ...

    def metrics(self, outputs: Tensor, labels: Tensor) -> Mapping[str, float]:
        """Measure a whole split; `metric` and `loss` are among the names."""
        ...


def of(data: TaskData, recipe: Recipe) -> Objective:
    """Return the objective of a task under a recipe."""
    return Classification(data.metric, data.direction)


class Classification:
    """Cross-entropy, measured by accuracy in [0, 1]."""

    def __init__(self, metric: str, direction: Direction) -> None:
        self.metric = metric
        self.direction: Direction = direction

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits `(N, classes)` and labels `(N,)`."""
        return functional.cross_entropy(outputs, labels)

    def metrics(self, outputs: Tensor, labels: Tensor) -> Mapping[str, float]:
        """Return accuracy and mean cross-entropy of a split."""
        right = (outputs.argmax(dim=1) == labels).double().mean()
        loss = functional.cross_entropy(outputs.double(), labels)
        return {"accuracy": right.item(), "loss": loss.item()}
