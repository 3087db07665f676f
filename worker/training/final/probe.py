"""The linear probe: what a linear model makes of features that no training on the task has touched."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trimtab.contract.recipe import Recipe
from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import PlacedSplit, autocast, row_batches
from worker.training.model.backbones import Backbone
from worker.training.objective.evaluate import BATCH_SIZE
from worker.training.objective.objectives import Objective
from worker.training.optim import param_groups
from worker.training.optim.optimizers import Optimizer
from worker.training.optim.schedules import learning_rate

_STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Factors of the penalty on squared weights; the strongest is first, since the first one wins a tie."""
_STEPS = 200
"""The number of steps of Adam, each over the whole split."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the head would see of a split.

    Attributes:
        values: The inputs of the head, `(N, F)` in float32.
        labels: The labels of the same samples, `(N, ...)`.
    """

    values: Tensor
    labels: Tensor


def features_of(model: Backbone, split: PlacedSplit) -> Features:
    """Compute the head's inputs for a whole split, in evaluation mode."""
    micro_batches = MicroBatches()
    model.eval()

    def compute(stored: Tensor) -> Tensor:
        return model.features(stored).float()

    values: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.no_grad(), autocast(split.device):
        for rows in row_batches(torch.arange(len(split)), BATCH_SIZE):
            stored, batch_labels = split.take(rows)
            values += micro_batches.each(stored, compute)
            labels.append(batch_labels)
    return Features(torch.cat(values), torch.cat(labels))


def linear_probe(
    train: Features, validation: Features, test: Features, *, objective: Objective, outputs: int
) -> Mapping[str, float]:
    """Return the test metrics of a linear model on standardised features.

    Logistic regression for classes and for yes and no, ridge regression for numbers: convex and without chance. The
    penalty is chosen on the validation split (the protocol of Kornblith et al., 2019,
    https://arxiv.org/abs/1805.08974, section 3).

    Args:
        train: The features that it learns from.
        validation: The features that choose the penalty.
        test: The features that it is measured on.
        objective: The loss and the metrics of the task.
        outputs: The number of outputs of the linear model.
    """
    # The training split alone gives mean and deviation: the others must not reach what is learned.
    std, mean = torch.std_mean(train.values, dim=0, correction=0)
    scaled = [
        Features((part.values - mean) / (std + 1e-6), part.labels)
        for part in (train, validation, test)
    ]
    candidates = [_fitted(scaled[0], objective, outputs, strength) for strength in _STRENGTHS]
    best = max if objective.direction == "maximize" else min
    chosen = best(
        candidates, key=lambda model: _measured(model, scaled[1], objective)[objective.metric]
    )
    return _measured(chosen, scaled[2], objective)


def _fitted(train: Features, objective: Objective, outputs: int, strength: float) -> nn.Linear:
    """Minimise loss and penalty from zero weights, over the whole split at each step."""
    recipe = Recipe(
        optimizer="adam",
        learning_rate=0.1,
        weight_decay=strength,
        schedule="cosine",
        epochs=_STEPS,
    )
    model = nn.Linear(train.values.shape[1], outputs, device=train.values.device)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    optimizer = Optimizer(param_groups.of_head(model, recipe), recipe)
    for step in range(_STEPS):
        optimizer.zero_grad()
        objective.loss(model(train.values), train.labels).backward()
        optimizer.step(learning_rate(recipe, step=step, steps_per_epoch=1))
    return model


def _measured(model: nn.Linear, part: Features, objective: Objective) -> Mapping[str, float]:
    with torch.no_grad():
        return objective.metrics(model(part.values), part.labels)
