"""What a task can be measured by, and whether more or less of it is better."""

from collections.abc import Mapping
from typing import Literal

TaskKind = Literal["classification", "regression", "multi_label", "multi_task"]
TargetKind = Literal["classification", "regression", "binary"]
Direction = Literal["maximize", "minimize"]

_OF_CLASSES = ("accuracy", "balanced_accuracy", "f1_macro", "auroc", "loss")
_OF_NUMBERS = ("rmse", "mae", "r2", "loss")

METRICS: Mapping[TaskKind, tuple[str, ...]] = {
    "classification": _OF_CLASSES,
    "regression": _OF_NUMBERS,
    "multi_label": ("average_precision", "f1_macro", "exact_match", "auroc", "loss"),
    "multi_task": ("loss",),
}
"""By kind of task; the first is what a study optimises where its document does not say."""

TARGET_METRICS: Mapping[TargetKind, tuple[str, ...]] = {
    "classification": _OF_CLASSES,
    "regression": _OF_NUMBERS,
    "binary": ("accuracy", "average_precision", "f1", "auroc", "loss"),
}
"""By kind of one target of several: the metrics that `<column>.<metric>` may name."""

SHARES = frozenset({"accuracy", "balanced_accuracy", "exact_match"})
"""Metrics that say which part of the pictures is right."""

_LESS_IS_BETTER = frozenset({"loss", "rmse", "mae"})


def plain(metric: str) -> str:
    """Return the metric's own name, without the column that it is of."""
    return metric.rpartition(".")[2]


def direction_of(metric: str) -> Direction:
    """Return whether more or less of a metric, of the whole task or of one column, is better."""
    return "minimize" if plain(metric) in _LESS_IS_BETTER else "maximize"
