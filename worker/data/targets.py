"""Targets: what a task learns of each picture, and the place of each target in labels and outputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.contract.metrics import TargetKind
from trimtab.contract.tasks import TargetColumn, Task
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
    known = labels[~np.isnan(labels)].astype(np.float64)
    numbers = column.kind == "regression" and len(known) > 0
    return Target(
        name=column.column,
        kind=column.kind,
        classes=classes,
        weight=column.weight,
        mean=float(known.mean()) if numbers else 0.0,
        # Equal labels have a deviation of 0, which nothing can be divided by; their mean is all there is to learn.
        std=float(known.std()) or 1.0 if numbers else 1.0,
    )


def labels_of(samples: Sequence[Sample]) -> Labels:
    """Return the labels as they are stored: class positions `(N,)`, or float32 `(N, targets)`."""
    labels = [sample.label for sample in samples]
    several = any(isinstance(label, tuple) for label in labels)
    return np.array(labels, dtype=np.float32 if several else np.int64)


def varied(labels: Labels, names: Iterable[str]) -> list[str]:
    """Return the names of the targets that have at least two different labels."""
    columns = labels[:, np.newaxis] if labels.ndim == 1 else labels
    return [name for name, column in zip(names, columns.T, strict=True) if _differ(column)]


def _differ(column: NDArray[np.generic]) -> bool:
    known = column[~np.isnan(column.astype(np.float64))]
    return bool((known != known[:1]).any())


def check_measurable(path: Path, task: Task, varied_in: Mapping[str, Sequence[str]]) -> None:
    """Refuse splits that the task's objective cannot be measured on.

    Args:
        path: The table, for the message.
        task: The task, which names the objective.
        varied_in: For each split the targets that have at least two different labels in it.

    Raises:
        NothingToMeasure: In some split no column of the objective has two different labels.
    """
    names = {column.column for column in task.targets}
    column = task.metric.rpartition(".")[0]
    measured = {column} if column else names
    for part, found in varied_in.items():
        if measured.isdisjoint(found):
            raise NothingToMeasure(path, part, sorted(measured))
