"""Metrics: which ones each kind of task has, and whether more or less of a metric is better."""

from collections.abc import Mapping
from typing import Literal

TaskKind = Literal["classification", "regression", "multi_label", "multi_task"]
TargetKind = Literal["classification", "regression", "binary"]
Direction = Literal["maximize", "minimize"]

_OF_CLASSES = ("accuracy", "balanced_accuracy", "f1_macro", "auroc", "loss")
_OF_NUMBERS = ("rmse", "mae", "r2", "pearson", "spearman", "loss")

METRICS: Mapping[TaskKind, tuple[str, ...]] = {
    "classification": _OF_CLASSES,
    "regression": _OF_NUMBERS,
    "multi_label": ("average_precision", "f1_macro", "exact_match", "auroc", "loss"),
    "multi_task": ("loss",),
}
"""The metrics of each kind of task. A study optimises the first one, unless its document names another."""

TARGET_METRICS: Mapping[TargetKind, tuple[str, ...]] = {
    "classification": _OF_CLASSES,
    "regression": _OF_NUMBERS,
    "binary": ("accuracy", "average_precision", "f1", "auroc", "loss"),
}
"""The metrics of each kind of target in a task with several; `<column>.<metric>` names one of them."""

SHARES = frozenset({"accuracy", "balanced_accuracy", "exact_match"})
"""Metrics that are shares of the pictures, and are shown in per cent."""

_WITHIN_0_AND_1 = SHARES | {"f1_macro", "f1", "auroc", "average_precision"}

_LESS_IS_BETTER = frozenset({"loss", "rmse", "mae"})

_OF_TWO_LABELS: Mapping[TargetKind, frozenset[str]] = {
    "classification": frozenset({"auroc"}),
    "regression": frozenset({"r2", "pearson", "spearman"}),
    "binary": frozenset({"average_precision", "f1", "f1_macro", "auroc"}),
}


def plain(metric: str) -> str:
    """Return the name of a metric without its column."""
    return metric.rpartition(".")[2]


def needs_two_labels(kind: TargetKind, metric: str) -> bool:
    """Return whether a metric of such a target says nothing where all its labels are equal."""
    return plain(metric) in _OF_TWO_LABELS[kind]


def is_bounded(metric: str) -> bool:
    """Return whether a metric, with or without its column, lies within 0 and 1.

    The others have no worst value, so that one bad trial can be further from all others than these are from each other;
    or, as correlations do, they go below 0.
    """
    return plain(metric) in _WITHIN_0_AND_1


def direction_of(metric: str) -> Direction:
    """Return whether more or less of a metric is better, with or without its column."""
    return "minimize" if plain(metric) in _LESS_IS_BETTER else "maximize"
