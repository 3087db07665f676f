"""The linear probe: what a linear model makes of features that no training on the task has touched."""

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


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear model on standardised features.

    Attributes:
        layer: The linear model.
        mean: The mean of each feature in what it learned from, `(F,)`.
        std: Its standard deviation, `(F,)`.
        strength: The penalty on its squared weights.
    """

    layer: nn.Linear
    mean: Tensor
    std: Tensor
    strength: float

    def outputs(self, part: Features) -> Tensor:
        """Return the outputs for a split, `(N, width)`."""
        with torch.no_grad():
            return self.layer((part.values - self.mean) / self.std)

    def put_into(self, head: nn.Linear) -> None:
        """Give a network's head the weights that make the same of features that nobody has standardised."""
        with torch.no_grad():
            weight = self.layer.weight / self.std
            head.weight.copy_(weight)
            head.bias.copy_(self.layer.bias - weight @ self.mean)


def chosen_probe(
    train: Features, validation: Features, *, objective: Objective, outputs: int
) -> Probe:
    """Fit a linear model on standardised features, with the penalty that is best on the validation split.

    Logistic regression for classes and for yes and no, ridge regression for numbers: convex and without chance (the
    protocol of Kornblith et al., 2019, https://arxiv.org/abs/1805.08974, section 3).

    Args:
        train: The features that it learns from.
        validation: The features that choose the penalty.
        objective: The loss and the metrics of the task.
        outputs: The number of outputs of the linear model.
    """
    candidates = [
        fitted_probe(train, objective=objective, outputs=outputs, strength=strength)
        for strength in _STRENGTHS
    ]
    best = max if objective.direction == "maximize" else min

    def value(probe: Probe) -> float:
        measured = objective.metrics(probe.outputs(validation), validation.labels)
        return measured[objective.metric]

    return best(candidates, key=value)


def fitted_probe(
    train: Features, *, objective: Objective, outputs: int, strength: float
) -> Probe:
    """Fit a linear model with this penalty; the arguments are those of `chosen_probe`."""
    # What it learns from alone gives mean and deviation: other splits must not reach what is learned.
    std, mean = torch.std_mean(train.values, dim=0, correction=0)
    std = std + 1e-6
    scaled = Features((train.values - mean) / std, train.labels)
    return Probe(_fitted(scaled, objective, outputs, strength), mean, std, strength)


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
