"""Objectives: the loss that training lowers, and the metrics that trials are compared by.

The measured loss ignores the recipe: no label smoothing, no class weights, squared errors. Otherwise the losses of two
trials with different recipes could not be compared.
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
    """Computes losses and metrics from the outputs of a network's last layer `(N, width)` and the labels."""

    @property
    def metric(self) -> str:
        """The name of the metric that trials are compared by."""
        ...

    @property
    def direction(self) -> Direction:
        """Whether more or less of that metric is better."""
        ...

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over a batch, which training lowers."""
        ...

    def metrics(self, outputs: Tensor, labels: Tensor) -> Mapping[str, float]:
        """Return the metrics of a whole split by name: `loss` always, and `metric` if the labels differ."""
        ...

    def value(self, outputs: Tensor, labels: Tensor) -> float | None:
        """Return `metric` alone, which takes less time than all; None where the labels are too alike for it."""
        ...

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Return 1 for each right answer, 0 for each wrong one, NaN where that is not known, `(N,)` in float64.

        Their mean is `metric`. None where that metric is no share of right answers.
        """
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
        metric: The metric that trials are compared by. If it is `accuracy` or `loss`, no other metric is computed.
        direction: The direction in which the metric is better.
        smoothing: The share of each label that is spread over all classes (label smoothing, Szegedy et al., 2016,
            https://arxiv.org/abs/1512.00567, section 7), in [0, 1).
        weights: The weight of each class in the training loss, `(classes,)`; None weighs all classes alike.
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
        """Return accuracy and mean cross-entropy of a split, and the other metrics if trials are compared by one."""
        right = (outputs.argmax(dim=1) == labels).double().mean()
        loss = functional.cross_entropy(outputs.double(), labels)
        measured = {"accuracy": right.item(), "loss": loss.item()}
        if self.metric in measured:
            return measured
        return {**measured, **metrics.of_classes(outputs, labels)}

    def value(self, outputs: Tensor, labels: Tensor) -> float | None:
        """Return the metric that trials are compared by; None where the labels are too alike for it."""
        if self.metric == "loss":
            return functional.cross_entropy(outputs.double(), labels).item()
        if self.metric == "accuracy":
            return (outputs.argmax(dim=1) == labels).double().mean().item()
        return metrics.of_classes(outputs, labels, only=self.metric).get(self.metric)

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Return which rows are told right, `(N,)`, if trials are compared by the accuracy; else None."""
        if self.metric != "accuracy":
            return None
        return (outputs.argmax(dim=1) == labels).double()
