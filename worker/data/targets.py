"""Targets: what a task learns of each picture, and the place of each target in labels and outputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.contract.datasets import TargetColumn
from trimtab.contract.metrics import TargetKind, needs_two_labels
from trimtab.contract.tasks import Task
from worker.data.cache import Labels
from worker.data.errors import NothingToMeasure
from worker.data.source import Sample

_ONLY = TargetColumn(column="class", kind="classification")
"""The target of a data set that is not a table."""


@dataclass(frozen=True, slots=True)
class Target:
    """One target.

    Attributes:
        name: The name of the column.
        kind: The kind of its labels.
        classes: The class names of a classification, in the order of its labels; empty for other kinds.
        weight: The factor on its loss in the sum over all targets.
        mean: The mean of the training labels of a regression, in the unit of the target.
        std: The standard deviation of the training labels of a regression, in the unit of the target.
    """

    name: str
    kind: TargetKind
    classes: tuple[str, ...] = ()
    weight: float = 1.0
    mean: float = 0.0
    std: float = 1.0

    @property
    def width(self) -> int:
        """The number of outputs of the last layer that belong to it."""
        return len(self.classes) if self.kind == "classification" else 1


def targets_of(
    task: Task, classes: Mapping[str, Sequence[str]], train: Labels
) -> tuple[Target, ...]:
    """Describe a task's targets.

    Args:
        task: The task, which names and weighs the targets.
        classes: The class names of each target, by its name; empty for a target that is not a classification.
        train: The labels of the training split, `(N,)` or `(N, targets)`; their mean and standard deviation normalise
            regression targets.
    """
    columns = train[:, np.newaxis] if train.ndim == 1 else train
    return tuple(
        _target(column, tuple(classes[column.column]), columns[:, position])
        for position, column in enumerate(task.targets or (_ONLY,))
    )


def _target(column: TargetColumn, classes: tuple[str, ...], labels: Labels) -> Target:
    known = _known(labels)
    numbers = column.kind == "regression" and len(known) > 0
    return Target(
        name=column.column,
        kind=column.kind,
        classes=classes,
        weight=column.weight,
        mean=float(known.mean()) if numbers else 0.0,
        # Equal labels have no deviation that anything can be divided by; their mean is all there is to learn.
        std=float(known.std()) if numbers and _differ(labels) else 1.0,
    )


def labels_of(samples: Sequence[Sample]) -> Labels:
    """Return the labels as they are stored: class positions `(N,)`, or float64 `(N, targets)`."""
    labels = [sample.label for sample in samples]
    several = any(isinstance(label, tuple) for label in labels)
    return np.array(labels, dtype=np.float64 if several else np.int64)


def different(labels: Labels, names: Iterable[str]) -> dict[str, int]:
    """Return by the name of each target whether no label of it is known (0), or all known ones are equal (1), or not (2)."""
    columns = labels[:, np.newaxis] if labels.ndim == 1 else labels
    return {
        name: min(len(_known(column)), 1 + _differ(column))
        for name, column in zip(names, columns.T, strict=True)
    }


def _known(labels: Labels) -> NDArray[np.float64]:
    return labels[~np.isnan(labels)].astype(np.float64)


def _differ(labels: Labels) -> bool:
    known = _known(labels)
    return bool((known != known[:1]).any())


def check_measurable(
    task: Task, where: str, different_in: Mapping[str, Mapping[str, int]]
) -> None:
    """Refuse splits that nothing can be learned from, or that the task's objective cannot be measured on.

    Args:
        task: The task, which names the objective.
        where: The data set, for the message.
        different_in: For each split, the result of `different`.

    Raises:
        NothingToMeasure: In some split, too few labels of the objective's columns are known or differ.
    """
    own = task.metric.rpartition(".")[0]
    columns = [each for each in task.targets or (_ONLY,) if own in ("", each.column)]
    for part, counts in different_in.items():
        # Where one column can be measured, the mean over the columns can.
        two = part == "train" or all(
            needs_two_labels(column.kind, task.metric) for column in columns
        )
        if all(counts[column.column] < 1 + two for column in columns):
            names = [column.column for column in columns]
            raise NothingToMeasure(where, part, names, task.metric, two=two)
