"""The average of several models' answers, told as the outputs of one.

Probabilities are averaged, and numbers in their own unit (Lakshminarayanan, Pritzel and Blundell, 2017,
https://arxiv.org/abs/1612.01474, section 2.4). The average is told as outputs of a last layer: whatever reads those of
one model reads those of several.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from trimtab.contract.metrics import TargetKind


class Columns(Protocol):
    """What the outputs of one target stand for."""

    @property
    def kind(self) -> TargetKind:
        """The kind of its labels."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """The names of its outputs where it is a classification; else empty, and it has one output."""
        ...

    @property
    def mean(self) -> float:
        """The number that an output of 0 stands for, in a regression."""
        ...

    @property
    def std(self) -> float:
        """The difference that an output of 1 makes, in a regression."""
        ...


def average(
    outputs: Sequence[Tensor],
    targets: Sequence[Sequence[Columns]],
    unit: Sequence[Columns] | None = None,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Return the outputs of the average model, `(N, width)` in float64.

    Args:
        outputs: The outputs of each model, `(N, width)`, for the same samples.
        targets: The targets of each model; empty for a single classification, whose classes all outputs are.
        unit: The targets in whose mean and deviation numbers are told; None: the first model's.
        weights: The weight of each model, more than 0; None: all alike.
    """
    counts = torch.tensor(weights or [1.0] * len(outputs), dtype=torch.float64)
    shares = (counts / counts.sum()).to(outputs[0].device)
    if not targets[0]:
        return _of_classes(torch.stack([one.double() for one in outputs]), shares)
    widths = [len(target.classes) or 1 for target in targets[0]]
    split = [torch.split(one.double(), widths, dim=1) for one in outputs]
    columns = [
        _of_target(torch.stack(parts), own, told, shares)
        for parts, own, told in zip(
            zip(*split, strict=True),
            zip(*targets, strict=True),
            unit or targets[0],
            strict=True,
        )
    ]
    return torch.cat(columns, dim=1)


def _of_target(
    outputs: Tensor, own: Sequence[Columns], told: Columns, shares: Tensor
) -> Tensor:
    """Average the outputs `(models, N, width)` of one target, of which each model has its share `(models,)`."""
    each = shares[:, None, None]
    match told.kind:
        case "classification":
            return _of_classes(outputs, shares)
        case "binary":
            # The logit of the mean probability; in logarithms, so that neither of both becomes 0.
            yes, no = functional.logsigmoid(outputs), functional.logsigmoid(-outputs)
            return (yes + each.log()).logsumexp(dim=0) - (no + each.log()).logsumexp(dim=0)
        case "regression":
            values = [
                one * target.std + target.mean for one, target in zip(outputs, own, strict=True)
            ]
            return ((torch.stack(values) * each).sum(dim=0) - told.mean) / told.std


def _of_classes(outputs: Tensor, shares: Tensor) -> Tensor:
    """Return the logarithms of the mean probabilities: a softmax gives these back."""
    return (outputs.log_softmax(dim=2) + shares[:, None, None].log()).logsumexp(dim=0)
