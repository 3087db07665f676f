"""Metrics of whole splits, computed by torchmetrics (https://lightning.ai/docs/torchmetrics).

The library is imported when the first metric is computed, because the import takes seconds.
"""

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from trimtab.contract.metrics import needs_two_labels


def of_classes(logits: Tensor, labels: Tensor, *, only: str | None = None) -> dict[str, float]:
    """Return macro metrics of logits `(N, classes)` against class positions `(N,)`: each class counts alike.

    A class without a picture in the split counts in neither recall nor AUROC, and in F1 only where it was guessed.
    `auroc` is the mean over the classes of one class against the rest, and is absent where only one class occurs.

    Args:
        logits: The outputs for each class.
        labels: The classes.
        only: The name of the one metric that is computed; None computes all.
    """
    computed = _OF_CLASSES if only is None else {only: _OF_CLASSES[only]}
    measured = {name: compute(logits, labels) for name, compute in computed.items()}
    return {name: value for name, value in measured.items() if value is not None}


def _balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    from torchmetrics.functional import classification

    recall = classification.multiclass_recall(
        logits.argmax(dim=1), labels, num_classes=logits.shape[1], average=None
    )
    return recall[_present(labels)].mean().item()


def _f1_macro(logits: Tensor, labels: Tensor) -> float:
    from torchmetrics.functional import classification

    return classification.multiclass_f1_score(
        logits.argmax(dim=1), labels, num_classes=logits.shape[1], average="macro"
    ).item()


def _auroc(logits: Tensor, labels: Tensor) -> float | None:
    from torchmetrics.functional import classification

    present = _present(labels)
    if len(present) < 2:
        return None
    scores = _against_the_rest(logits.double())
    of_each = [
        classification.binary_auroc(_ranked(scores[:, one]), (labels == one).long())
        for one in present
    ]
    return torch.stack(of_each).mean().item()


_OF_CLASSES: Mapping[str, Callable[[Tensor, Tensor], float | None]] = {
    "balanced_accuracy": _balanced_accuracy,
    "f1_macro": _f1_macro,
    "auroc": _auroc,
}


def _present(labels: Tensor) -> Tensor:
    return cast(Tensor, labels.unique())


def of_numbers(
    predicted: Tensor, labels: Tensor, *, only: str | None = None
) -> dict[str, float]:
    """Return the metrics of numbers `(N,)` against labels `(N,)`; where all labels are equal, `rmse` and `mae` alone.

    `rmse` and `mae` are in the unit of the numbers. `spearman` is the correlation of ranks; equal numbers have the mean
    of theirs. All is computed here: torchmetrics takes a sum of squares below 1e-4 for zero, which is that of any target
    in a small enough unit.

    Args:
        predicted: The outputs, float64.
        labels: The labels, float64.
        only: The name of the one metric that is computed; None computes all.
    """
    names = list(_OF_NUMBERS) if only is None else [only]
    if not (labels != labels[0]).any():
        names = [name for name in names if not needs_two_labels("regression", name)]
    return {name: _OF_NUMBERS[name](predicted, labels) for name in names}


def _rmse(predicted: Tensor, labels: Tensor) -> float:
    return (predicted - labels).square().mean().sqrt().item()


def _mae(predicted: Tensor, labels: Tensor) -> float:
    return (predicted - labels).abs().mean().item()


def _r2(predicted: Tensor, labels: Tensor) -> float:
    errors, spread = predicted - labels, labels - labels.mean()
    return 1 - (errors.square().sum() / spread.square().sum()).item()


def _spearman(predicted: Tensor, labels: Tensor) -> float:
    return _correlation(_ranks(predicted), _ranks(labels))


def _correlation(one: Tensor, other: Tensor) -> float:
    """Return the correlation of numbers `(N,)` (Pearson's); 0 where all of `one` are equal, since they then tell nothing."""
    if (one == one[0]).all():
        return 0.0
    one, other = one.double(), other.double()  # whichever precision each is told in
    one, other = one - one.mean(), other - other.mean()
    # Each by its own length, since the product of both may be too small a number.
    cosine = cast(Tensor, (one / one.norm()) @ (other / other.norm()))
    return cosine.clamp(-1, 1).item()


def _ranks(numbers: Tensor) -> Tensor:
    _, places, counts = cast(
        tuple[Tensor, Tensor, Tensor], numbers.unique(return_inverse=True, return_counts=True)
    )
    return (counts.cumsum(0) - (counts - 1) / 2)[places].double()


_OF_NUMBERS: Mapping[str, Callable[[Tensor, Tensor], float]] = {
    "rmse": _rmse,
    "mae": _mae,
    "r2": _r2,
    "pearson": _correlation,
    "spearman": _spearman,
}


def of_binary(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the metrics of logits of 1 `(N,)` against labels 0 and 1 `(N,)`; none if all labels are equal."""
    from torchmetrics.functional import classification

    if (labels == labels[0]).all():
        return {}
    ranked = _ranked(logits)
    return {
        "average_precision": classification.binary_average_precision(ranked, labels).item(),
        "f1": classification.binary_f1_score((logits > 0).long(), labels).item(),
        "auroc": classification.binary_auroc(ranked, labels).item(),
    }


def _against_the_rest(logits: Tensor) -> Tensor:
    """Return the log-odds `(N, classes)` of each class against all others together.

    They rank pictures as the probability of the class does, log p - log(1 - p), and still tell them apart where the
    probability itself is rounded to 1. The others' part is the log of the sum of exponentials before and after the
    class.
    """
    none = logits.new_full((len(logits), 1), -torch.inf)
    before = logits[:, :-1].logcumsumexp(dim=1)
    after = logits[:, 1:].flip(1).logcumsumexp(dim=1).flip(1)
    others = torch.logaddexp(torch.cat([none, before], dim=1), torch.cat([after, none], dim=1))
    return logits - others


def _ranked(scores: Tensor) -> Tensor:
    """Return the place of each score `(N,)` among the different ones, in [0, 1].

    torchmetrics takes what is not in [0, 1] through a sigmoid, which makes large scores equal.
    """
    places = cast(tuple[Tensor, Tensor], scores.unique(return_inverse=True))[1].double()
    return places / places.max().clamp(min=1)
