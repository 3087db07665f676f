"""The linear probe: what a linear classifier makes of features that no training on the task has touched."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worker.training.backbones import Backbone
from worker.training.evaluate import BATCH_SIZE
from worker.training.placement import PlacedSplit, autocast, row_batches

_STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Of the penalty on squared weights, the strongest first: it wins a tie."""
_ITERATIONS = 100


@dataclass(frozen=True, slots=True)
class Features:
    """What the head would see of a split: `(N, F)`, with its labels `(N,)`."""

    values: Tensor
    labels: Tensor


def features_of(model: Backbone, split: PlacedSplit) -> Features:
    """Compute the head's inputs for a whole split, in evaluation mode."""
    model.eval()
    values: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.no_grad(), autocast(split.device):
        for rows in row_batches(torch.arange(len(split)), BATCH_SIZE):
            images, batch_labels = split.take(rows)
            values.append(model.features(images).float())
            labels.append(batch_labels)
    return Features(torch.cat(values), torch.cat(labels))


def linear_probe(train: Features, validation: Features, test: Features, classes: int) -> float:
    """Return the test accuracy of logistic regression on standardised features.

    Convex and without chance; the penalty is chosen on the validation split (the protocol of Kornblith et al.,
    2019, https://arxiv.org/abs/1805.08974, section 3).
    """
    std, mean = torch.std_mean(train.values, dim=0, correction=0)
    scaled = [
        Features((part.values - mean) / (std + 1e-6), part.labels)
        for part in (train, validation, test)
    ]
    best_weights, best_accuracy = torch.zeros(0), -1.0
    for strength in _STRENGTHS:
        weights = _logistic_regression(scaled[0], classes, strength)
        accuracy = _accuracy(weights, scaled[1])
        if accuracy > best_accuracy:
            best_weights, best_accuracy = weights, accuracy
    return _accuracy(best_weights, scaled[2])


def _logistic_regression(train: Features, classes: int, strength: float) -> Tensor:
    """Return weights `(F + 1, classes)`, the last row the bias, which is not penalised."""
    weights = train.values.new_zeros(train.values.shape[1] + 1, classes, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = functional.cross_entropy(_logits(weights, train), train.labels)
        value = value + strength * weights[:-1].square().sum()
        value.backward()
        return value

    solver.step(loss)
    return weights.detach()


def _logits(weights: Tensor, part: Features) -> Tensor:
    return part.values @ weights[:-1] + weights[-1]


def _accuracy(weights: Tensor, part: Features) -> float:
    return (_logits(weights, part).argmax(dim=1) == part.labels).double().mean().item()
