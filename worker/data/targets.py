"""What is to be learned of each picture: one target or several, and where each stands in labels and outputs."""

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
"""What a data set that is no table has to learn."""


@dataclass(frozen=True, slots=True)
class Target:
    """One target.

    Attributes:
        name: Of its column.
        kind: What it holds.
        classes: Of a classification; a label is a position here.
        weight: Of its loss among those of all targets.
        mean: Of the training labels of a regression, in the target's own unit.
        std: The same for their standard deviation.
    """

    name: str
    kind: TargetKind
    classes: tuple[str, ...] = ()
    weight: float = 1.0
    mean: float = 0.0
    std: float = 1.0

    @property
    def width(self) -> int:
        """How many outputs of the last layer it takes."""
        return len(self.classes) if self.kind == "classification" else 1


def targets_of(
    task: Task, classes: Mapping[str, Sequence[str]], train: Labels
) -> tuple[Target, ...]:
    """Describe a task's targets.

    Args:
        task: Names and weighs them.
        classes: The class names by target; empty for one that has none.
        train: Labels of the training split, whose mean and deviation normalise numbers.
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
        # Labels that are all alike have no deviation; what is learned of them is their mean.
        std=float(known.std()) or 1.0 if numbers else 1.0,
    )


def labels_of(samples: Sequence[Sample]) -> Labels:
    """Return the labels as they are stored: class positions `(N,)`, or float32 `(N, targets)`."""
    labels = [sample.label for sample in samples]
    several = any(isinstance(label, tuple) for label in labels)
    return np.array(labels, dtype=np.float32 if several else np.int64)


def varied(labels: Labels, names: Iterable[str]) -> list[str]:
    """Return the names of the targets that have two labels or more that differ."""
    columns = labels[:, np.newaxis] if labels.ndim == 1 else labels
    return [name for name, column in zip(names, columns.T, strict=True) if _differ(column)]


def _differ(column: NDArray[np.generic]) -> bool:
    known = column[~np.isnan(column.astype(np.float64))]
    return bool((known != known[:1]).any())


def check_measurable(path: Path, task: Task, varied_in: Mapping[str, Sequence[str]]) -> None:
    """Refuse splits that the task's objective cannot be measured on.

    Args:
        path: Of the table, for the message.
        task: With its objective.
        varied_in: By split, the targets whose labels differ in it.

    Raises:
        NothingToMeasure: None of the columns that the objective is of has labels that differ.
    """
    names = {column.column for column in task.targets}
    column = task.metric.rpartition(".")[0]
    measured = {column} if column else names
    for part, found in varied_in.items():
        if measured.isdisjoint(found):
            raise NothingToMeasure(path, part, sorted(measured))
