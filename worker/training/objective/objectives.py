"""What a network's last layer is trained for, and what it is measured by.

A loss that is measured knows nothing of the recipe (no smoothing, no class weights, squared errors), so that trials of
different recipes compare.
"""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from trimtab.contract.metrics import Direction
from trimtab.contract.recipe import Recipe
from worker.data import TaskData
from worker.training.objective import metrics
from worker.training.objective.columns import Columns, balanced


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
        """Measure a whole split; `loss` is among the names, and `metric` where the labels differ."""
        ...


def of(data: TaskData, recipe: Recipe) -> Objective:
    """Return the objective of a task under a recipe."""
    if data.kind != "classification":
        return Columns(data, recipe)
    weighs = recipe.class_weights == "balanced"
    return Classification(
        data.metric,
        data.direction,
        smoothing=recipe.label_smoothing,
        weights=balanced(data.train.labels, len(data.classes)) if weighs else None,
    )


class Classification:
    """Cross-entropy of logits `(N, classes)` and class positions `(N,)`.

    Args:
        metric: What trials are compared by; where that is accuracy or the loss, nothing else is measured.
        direction: Whether more or less of it is better.
        smoothing: Share of each label that is spread over all classes (Szegedy et al., 2016,
            https://arxiv.org/abs/1512.00567, section 7).
        weights: Of each class's pictures in the mean; None weighs all alike.
    """

    def __init__(
        self,
        metric: str,
        direction: Direction,
        *,
        smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> None:
        self.metric = metric
        self.direction: Direction = direction
        self.is_plain = not smoothing and weights is None
        self._smoothing = smoothing
        self._weights = weights

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        if self._weights is None:
            return functional.cross_entropy(outputs, labels, label_smoothing=self._smoothing)
        self._weights = self._weights.to(outputs.device)
        each = functional.cross_entropy(
            outputs, labels, label_smoothing=self._smoothing, reduction="none"
        )
        return (each * self._weights[labels]).mean()

    def metrics(self, outputs: Tensor, labels: Tensor) -> Mapping[str, float]:
        """Return accuracy and mean cross-entropy of a split; the other metrics too where one of them is compared by."""
        right = (outputs.argmax(dim=1) == labels).double().mean()
        loss = functional.cross_entropy(outputs.double(), labels)
        measured = {"accuracy": right.item(), "loss": loss.item()}
        if self.metric in measured:
            return measured
        return {**measured, **metrics.of_classes(outputs.double().softmax(dim=1), labels)}
