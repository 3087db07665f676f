"""Where a classification is right and where it is not: scores of each class, and the pairs that are confused."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trimtab.contract.final_report import MOST_CLASSES, ClassScores, Confusion
from worker.data import TaskData

_YES_AND_NO = ("no", "yes")


@dataclass(frozen=True, slots=True)
class _Table:
    """The classes of the rows of a target, and what they were told to be.

    Attributes:
        target: The name of the target; empty where the task is one classification.
        names: The names of the classes.
        labels: The position of each row's class, `(rows,)`.
        told: The position of the class that it was told to be, `(rows,)`.
    """

    target: str
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    told: NDArray[np.int64]


def scores_of(seen: TaskData, outputs: Tensor, labels: Tensor) -> tuple[ClassScores, ...]:
    """Return the scores of the classes of all targets that have some, in their order; none of numbers.

    Of more than a hundred, those of the lowest recall are kept.

    Args:
        seen: The data of the task, which name the classes.
        outputs: The outputs of the last layer, `(N, width)`.
        labels: The labels, `(N,)` or `(N, targets)`; NaN is a label that is not known, and counts in nothing.
    """
    found = [one for table in _tables(seen, outputs, labels) for one in _scores(table)]
    worst = sorted(range(len(found)), key=lambda place: _recall(found[place]))[:MOST_CLASSES]
    return tuple(found[place] for place in sorted(worst))


def confusion_of(seen: TaskData, outputs: Tensor, labels: Tensor) -> tuple[Confusion, ...]:
    """Return how often one class was taken for another, the most frequent pairs first; a hundred at most.

    Args:
        seen: The data of the task, which name the classes.
        outputs: The outputs of the last layer, `(N, width)`.
        labels: The labels, `(N,)` or `(N, targets)`; NaN is a label that is not known.
    """
    found = [one for table in _tables(seen, outputs, labels) for one in _confused(table)]
    return tuple(sorted(found, key=lambda one: -one.count)[:MOST_CLASSES])


def _recall(scores: ClassScores) -> float:
    return 2.0 if scores.recall is None else scores.recall


def _scores(table: _Table) -> Iterator[ClassScores]:
    right = table.labels[table.labels == table.told]
    counts = (
        np.bincount(rows, minlength=len(table.names)).tolist()
        for rows in (right, table.labels, table.told)
    )
    each = zip(table.names, *counts, strict=True)
    for name, right, count, told in each:
        yield ClassScores(
            name=name,
            target=table.target,
            count=count,
            recall=right / count if count else None,
            precision=right / told if told else None,
        )


def _confused(table: _Table) -> Iterator[Confusion]:
    # Not a matrix: of tens of thousands of classes, it would have more cells than there is memory.
    wrong = np.stack([table.labels, table.told])[:, table.labels != table.told]
    pairs, counts = np.unique(wrong, axis=1, return_counts=True)
    found = cast(list[tuple[int, int]], pairs.T.tolist())
    for (one, other), count in zip(found, counts.tolist(), strict=True):
        yield Confusion(
            target=table.target,
            is_class=table.names[one],
            told_as=table.names[other],
            count=count,
        )


def _tables(seen: TaskData, outputs: Tensor, labels: Tensor) -> Iterator[_Table]:
    outputs, labels = outputs.cpu(), labels.cpu()
    if seen.kind == "classification":
        yield _Table("", seen.classes, labels.numpy(), outputs.argmax(dim=1).numpy())
        return
    start = 0
    for position, target in enumerate(seen.targets):
        own = outputs[:, start : start + target.width]
        start += target.width
        if target.kind == "regression":
            continue
        column = labels[:, position]
        known = ~column.isnan()
        is_named = target.kind == "classification"
        told = own.argmax(dim=1) if is_named else (own[:, 0] > 0).long()
        names = target.classes if is_named else _YES_AND_NO
        yield _Table(target.name, names, column[known].long().numpy(), told[known].numpy())
