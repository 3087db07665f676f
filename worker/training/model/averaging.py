"""The average of several models' answers, told as the outputs of one.

Probabilities are averaged, and numbers in their own unit (Lakshminarayanan, Pritzel and Blundell, 2017,
https://arxiv.org/abs/1612.01474, section 2.4). The average is told as outputs of a last layer: whatever reads those of
one model reads those of several.
"""

import math
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
) -> Tensor:
    """Return the outputs of the average model, `(N, width)` in float64.

    Args:
        outputs: The outputs of each model, `(N, width)`, for the same samples.
        targets: The targets of each model; empty for a single classification, whose classes all outputs are.
        unit: The targets in whose mean and deviation numbers are told; None: the first model's.
    """
    if not targets[0]:
        return _of_classes(torch.stack([one.double() for one in outputs]))
    widths = [len(target.classes) or 1 for target in targets[0]]
    split = [torch.split(one.double(), widths, dim=1) for one in outputs]
    columns = [
        _of_target(torch.stack(parts), own, told)
        for parts, own, told in zip(
            zip(*split, strict=True),
            zip(*targets, strict=True),
            unit or targets[0],
            strict=True,
        )
    ]
    return torch.cat(columns, dim=1)


def _of_target(outputs: Tensor, own: Sequence[Columns], told: Columns) -> Tensor:
    """Average the outputs `(models, N, width)` of one target."""
    match told.kind:
        case "classification":
            return _of_classes(outputs)
        case "binary":
            # The logit of the mean probability; in logarithms, so that neither of both becomes 0.
            yes, no = functional.logsigmoid(outputs), functional.logsigmoid(-outputs)
            return yes.logsumexp(dim=0) - no.logsumexp(dim=0)
        case "regression":
            values = [
                one * target.std + target.mean for one, target in zip(outputs, own, strict=True)
            ]
            return (torch.stack(values).mean(dim=0) - told.mean) / told.std


def _of_classes(outputs: Tensor) -> Tensor:
    """Return the logarithms of the mean probabilities: a softmax gives these back."""
    return outputs.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(outputs))
