"""The learning rate of every step, as a function of the step alone: a resumed training needs no state of it."""

import math

from trimtab.contract.recipe import Recipe


def learning_rate(recipe: Recipe, *, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step.

    Args:
        recipe: Peak, warm-up and schedule.
        step: From 0, over all epochs.
        steps_per_epoch: Steps in one epoch.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * min(1.0, (step + 1) / warmup)
    progress = (step - warmup) / (recipe.epochs * steps_per_epoch - warmup)
    match recipe.schedule:
        case "constant":
            return recipe.learning_rate
        case "linear":
            return recipe.learning_rate * (1 - progress)
        case "cosine":
            return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2
