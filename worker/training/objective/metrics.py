"""Metrics of whole splits, by torchmetrics. It is imported when something is measured: that costs seconds."""

from typing import cast

import torch
from torch import Tensor


def of_classes(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Measure probabilities `(N, classes)` against labels `(N,)`, each class counting alike.

    A class that has no picture here counts in neither recall nor AUROC; `auroc` is of each class against the rest,
    and absent where only one class occurs.
    """
    from torchmetrics.functional import classification

    classes = probabilities.shape[1]
    present = cast(Tensor, labels.unique())
    recall = classification.multiclass_recall(
        probabilities, labels, num_classes=classes, average=None
    )
    f1 = classification.multiclass_f1_score(
        probabilities, labels, num_classes=classes, average="macro"
    )
    measured = {"balanced_accuracy": recall[present].mean().item(), "f1_macro": f1.item()}
    if len(present) > 1:
        of_each = [
            classification.binary_auroc(probabilities[:, one], (labels == one).long())
            for one in present
        ]
        measured["auroc"] = torch.stack(of_each).mean().item()
    return measured


def of_numbers(predicted: Tensor, labels: Tensor) -> dict[str, float]:
    """Measure numbers `(N,)` against labels `(N,)` in their own unit; `r2` is absent where all labels are alike."""
    from torchmetrics.functional import regression

    measured = {
        "rmse": regression.mean_squared_error(predicted, labels, squared=False).item(),
        "mae": regression.mean_absolute_error(predicted, labels).item(),
    }
    if (labels != labels[0]).any():
        measured["r2"] = regression.r2_score(predicted, labels).item()
    return measured


def of_binary(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Measure probabilities `(N,)` of a yes against labels `(N,)` of 0 and 1; nothing where these are all alike."""
    from torchmetrics.functional import classification

    if (labels == labels[0]).all():
        return {}
    return {
        "average_precision": classification.binary_average_precision(
            probabilities, labels
        ).item(),
        "f1": classification.binary_f1_score(probabilities, labels).item(),
        "auroc": classification.binary_auroc(probabilities, labels).item(),
    }
