"""The linear probe: what a linear classifier makes of features that no training on the task has touched."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trimtab.contract.recipe import Recipe
from worker.training import groups
from worker.training.backbones import Backbone
from worker.training.evaluate import BATCH_SIZE
from worker.training.optim import Optimizer
from worker.training.placement import PlacedSplit, autocast, row_batches
from worker.training.schedules import learning_rate

_STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Of the penalty on squared weights, the strongest first: it wins a tie."""
_STEPS = 200


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
    candidates = [_logistic_regression(scaled[0], classes, strength) for strength in _STRENGTHS]
    best = max(candidates, key=lambda classifier: _accuracy(classifier, scaled[1]))
    return _accuracy(best, scaled[2])


def _logistic_regression(train: Features, classes: int, strength: float) -> nn.Linear:
    """Minimise cross-entropy and penalty from zero weights, over the whole split at each step."""
    recipe = Recipe(
        optimizer="adam",
        learning_rate=0.1,
        weight_decay=strength,
        schedule="cosine",
        epochs=_STEPS,
    )
    classifier = nn.Linear(train.values.shape[1], classes, device=train.values.device)
    for parameter in classifier.parameters():
        nn.init.zeros_(parameter)
    optimizer = Optimizer(groups.of_head(classifier, recipe), recipe)
    for step in range(_STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(classifier(train.values), train.labels).backward()
        optimizer.step(learning_rate(recipe, step=step, steps_per_epoch=1))
    return classifier


def _accuracy(classifier: nn.Linear, part: Features) -> float:
    with torch.no_grad():
        return (classifier(part.values).argmax(dim=1) == part.labels).double().mean().item()
