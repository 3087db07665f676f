"""The objective of tasks with columns of labels: regression, several labels, or targets of several kinds.

Each target has columns of its own in the outputs of the last layer. A label that is NaN is unknown, and counts in no
loss and in no metric.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trimtab.contract.metrics import Direction, plain
from trimtab.contract.recipe import Recipe
from worker.data import TaskData
from worker.data.cache import Labels
from worker.data.targets import Target
from worker.training.objective import metrics


class Columns:
    """The weighted sum of the targets' mean losses; in a task with one kind of target, their weighted mean.

    Args:
        data: The data of the task: its targets, and the training labels, from which class weights are computed.
        recipe: The recipe that sets label smoothing, class weights and the loss of numbers.
    """

    def __init__(self, data: TaskData, recipe: Recipe) -> None:
        self.metric = data.metric
        self.direction: Direction = data.direction
        weights = torch.tensor([target.weight for target in data.targets])
        self._weights = weights if data.kind == "multi_task" else weights / weights.sum()
        self._targets = data.targets
        known = 1 - np.isnan(data.train.labels).mean(axis=0)
        # The share of known labels in the training split. The share in each batch would not do: the losses of the
        # micro-batches would no longer add up to the loss of the batch.
        self._known = torch.from_numpy(known.clip(min=1 / len(data.train))).float()
        self._parts = _parts(data, recipe)
        self._plain = _parts(data, Recipe())

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the joint loss of outputs `(N, width)` and labels `(N, targets)`.

        A target's sum is divided by the number of labels that are known on average in this many training pictures, so
        that the losses of the micro-batches add up to the loss of the batch.
        """
        self._weights = self._weights.to(outputs.device)
        self._known = self._known.to(outputs.device)
        sums = _sums(self._parts, outputs.float(), labels)
        return (sums / (len(labels) * self._known) * self._weights).sum()

    def metrics(self, outputs: Tensor, labels: Tensor) -> Mapping[str, float]:
        """Return the metrics of a split by name; with several targets of their own kinds, `<column>.<metric>`."""
        outputs = outputs.double()
        losses = self._losses(outputs, labels)
        loss = {"loss": self._joint(losses)}
        of_parts = [
            part.metrics(*columns) for part, columns in _shares(self._plain, outputs, labels)
        ]
        if len(of_parts) == 1:
            return loss | of_parts[0]
        named = zip(self._targets, of_parts, cast(list[float], losses.tolist()), strict=True)
        return loss | {
            f"{target.name}.{name}": value
            for target, measured, own in named
            for name, value in {"loss": own, **measured}.items()
        }

    def value(self, outputs: Tensor, labels: Tensor) -> float | None:
        """Return the metric that trials are compared by; None where the labels are too alike for it."""
        outputs, name = outputs.double(), plain(self.metric)
        if self.metric == "loss":
            return self._joint(self._losses(outputs, labels))
        if name == "loss":
            return self._losses(outputs, labels)[self._position()].item()
        part, columns = _shares(self._plain, outputs, labels)[self._position()]
        return part.metrics(*columns, only=name).get(name)

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Return which rows are told right, `(N,)`, if trials are compared by a share of those; else None."""
        if plain(self.metric) not in ("accuracy", "exact_match"):
            return None
        part, columns = _shares(self._plain, outputs, labels)[self._position()]
        return part.hits(*columns)

    def _losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return each target's mean loss over its known labels, `(targets,)`."""
        known = (~labels.isnan()).sum(dim=0)
        return _sums(self._plain, outputs, labels) / known.clamp(min=1)

    def _joint(self, losses: Tensor) -> float:
        return (losses * self._weights.to(losses)).sum().item()

    def _position(self) -> int:
        """Return the position of the metric's own target; 0 where all targets have one metric."""
        own = self.metric.rpartition(".")[0]
        return next((n for n, target in enumerate(self._targets) if target.name == own), 0)


def balanced(labels: Labels, classes: int) -> Tensor:
    """Return the weight of each class `(classes,)` that makes all classes of `labels` `(N,)` count alike.

    The mean weight of a known label is 1, as with `class_weight="balanced"` of scikit-learn
    (https://scikit-learn.org/stable/modules/generated/sklearn.utils.class_weight.compute_class_weight.html).
    """
    known = labels[~np.isnan(labels)].astype(np.int64)
    counts = np.bincount(known, minlength=classes).clip(min=1)
    return torch.from_numpy(len(known) / (classes * counts)).float()


class _Part(Protocol):
    """The losses and metrics of some targets, on their columns of outputs and labels."""

    width: int
    """The number of columns of outputs."""
    count: int
    """The number of columns of labels."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each label, `(N, count)`; all labels are known."""
        ...

    def metrics(
        self, outputs: Tensor, labels: Tensor, *, only: str | None = None
    ) -> dict[str, float]:
        """Return the metrics other than the loss, as far as the known labels allow.

        Args:
            outputs: Its columns of outputs.
            labels: Its columns of labels.
            only: The name of the one that is asked for: the others may be left out.
        """
        ...

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Return 1 for each row that is told right, else 0, and NaN where no label is known; None of numbers."""
        ...


def _parts(data: TaskData, recipe: Recipe) -> Sequence[_Part]:
    labels = data.train.labels
    if data.kind == "multi_label":
        return [_Binary(recipe, labels, joint=True)]
    return [
        _part(target, recipe, labels[:, [position]])
        for position, target in enumerate(data.targets)
    ]


def _part(target: Target, recipe: Recipe, labels: Labels) -> _Part:
    match target.kind:
        case "classification":
            return _Classes(target, recipe, labels)
        case "regression":
            return _Number(target, recipe)
        case "binary":
            return _Binary(recipe, labels, joint=False)


def _shares(
    parts: Sequence[_Part], outputs: Tensor, labels: Tensor
) -> list[tuple[_Part, tuple[Tensor, Tensor]]]:
    """Return each part with its own columns."""
    of_outputs = torch.split(outputs, [part.width for part in parts], dim=1)
    of_labels = torch.split(labels, [part.count for part in parts], dim=1)
    return list(zip(parts, zip(of_outputs, of_labels, strict=True), strict=True))


def _sums(parts: Sequence[_Part], outputs: Tensor, labels: Tensor) -> Tensor:
    """Return each target's sum of losses over its known labels."""
    known = ~labels.isnan()
    # NaN is replaced before the losses are computed: the gradient through NaN is NaN even where `where` drops it.
    filled = labels.nan_to_num()
    losses = torch.cat(
        [part.losses(*columns) for part, columns in _shares(parts, outputs, filled)], dim=1
    )
    return torch.where(known, losses, 0).sum(dim=0)


class _Number:
    """A regression target, learned as its distance from the training mean in training standard deviations.

    The loss is the squared error, or that of Huber (1964), https://doi.org/10.1214/aoms/1177703732.
    """

    width = count = 1

    def __init__(self, target: Target, recipe: Recipe) -> None:
        self._mean, self._std = target.mean, target.std
        self._delta = recipe.huber_delta if recipe.regression_loss == "huber" else None

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        # In float64, as they are stored: large numbers that differ by little would be one number in float32.
        normalised = ((labels - self._mean) / self._std).to(outputs)
        if self._delta is None:
            return functional.mse_loss(outputs, normalised, reduction="none")
        return functional.huber_loss(outputs, normalised, reduction="none", delta=self._delta)

    def metrics(
        self, outputs: Tensor, labels: Tensor, *, only: str | None = None
    ) -> dict[str, float]:
        known = ~labels.isnan()
        if not known.any():
            return {}
        predicted = outputs * self._std + self._mean
        return metrics.of_numbers(predicted[known], labels[known], only=only)

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        return None


class _Classes:
    """Classes that exclude each other."""

    count = 1

    def __init__(self, target: Target, recipe: Recipe, labels: Labels) -> None:
        self.width = target.width
        self._smoothing = recipe.label_smoothing
        self._weights = (
            balanced(labels[:, 0], self.width) if recipe.class_weights == "balanced" else None
        )

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        positions = labels[:, 0].long()
        each = functional.cross_entropy(
            outputs, positions, label_smoothing=self._smoothing, reduction="none"
        )
        if self._weights is not None:
            self._weights = self._weights.to(outputs.device)
            each = each * self._weights[positions]
        return each.unsqueeze(1)

    def metrics(
        self, outputs: Tensor, labels: Tensor, *, only: str | None = None
    ) -> dict[str, float]:
        known = ~labels[:, 0].isnan()
        if not known.any():
            return {}
        outputs, positions = outputs[known], labels[known, 0].long()
        right = (outputs.argmax(dim=1) == positions).double().mean().item()
        if only == "accuracy":
            return {"accuracy": right}
        return {"accuracy": right, **metrics.of_classes(outputs, positions, only=only)}

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        right = (outputs.argmax(dim=1) == labels[:, 0]).double()
        return right.where(~labels[:, 0].isnan(), torch.nan)


class _Binary:
    """Labels that are each 0 or 1, one or several, with a logit each."""

    def __init__(self, recipe: Recipe, labels: Labels, *, joint: bool) -> None:
        self.width = self.count = labels.shape[1]
        self._joint = joint
        self._smoothing = recipe.label_smoothing
        self._weights: Tensor | None = None
        if recipe.class_weights == "balanced":
            self._weights = torch.stack([balanced(column, 2) for column in labels.T], dim=1)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        smoothed = labels * (1 - self._smoothing) + self._smoothing / 2
        each = functional.binary_cross_entropy_with_logits(
            outputs, smoothed.to(outputs), reduction="none"
        )
        if self._weights is not None:
            self._weights = self._weights.to(outputs.device)
            each = each * torch.where(labels > 0, self._weights[1], self._weights[0])
        return each

    def metrics(
        self, outputs: Tensor, labels: Tensor, *, only: str | None = None
    ) -> dict[str, float]:
        del only
        measured = _means(
            [
                metrics.of_binary(scores[known], column[known].long())
                for scores, column in zip(outputs.T, labels.T, strict=True)
                if (known := ~column.isnan()).any()
            ]
        )
        of_rows = self.hits(outputs, labels).nanmean().item()
        if not self._joint:
            return {"accuracy": of_rows, **measured}
        if "f1" in measured:
            measured["f1_macro"] = measured.pop("f1")
        return {"exact_match": of_rows, **measured}

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        known = ~labels.isnan()
        right = (((outputs > 0) == (labels > 0)) | ~known).all(dim=1).double()
        return right.where(known.any(dim=1), torch.nan)


def _means(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the columns that have it."""
    values: dict[str, list[float]] = {}
    for one in measured:
        for name, value in one.items():
            values.setdefault(name, []).append(value)
    return {name: sum(found) / len(found) for name, found in values.items()}
