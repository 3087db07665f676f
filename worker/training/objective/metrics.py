"""Metrics of whole splits, computed by torchmetrics (https://lightning.ai/docs/torchmetrics).

The library is imported when the first metric is computed, because the import takes seconds.
"""

from typing import cast

import torch
from torch import Tensor


def of_classes(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Return macro metrics of probabilities `(N, classes)` against class positions `(N,)`: each class counts alike.

    A class without a picture in the split counts in neither recall nor AUROC. `auroc` is the mean over the classes of
    one class against the rest, and is absent where only one class occurs.
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
    """Return the metrics of numbers `(N,)` against labels `(N,)`, in their unit; no `r2` where all labels are equal."""
    from torchmetrics.functional import regression

    measured = {
        "rmse": regression.mean_squared_error(predicted, labels, squared=False).item(),
        "mae": regression.mean_absolute_error(predicted, labels).item(),
    }
    if (labels != labels[0]).any():
        measured["r2"] = regression.r2_score(predicted, labels).item()
    return measured


def of_binary(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the metrics of probabilities of 1 `(N,)` against labels 0 and 1 `(N,)`; none if all are equal."""
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
