"""The learning rate of every step, as a function of the step alone: a resumed training needs no state of it."""

import math

from trimtab.contract.recipe import Recipe

_CYCLE_BEGINS, _CYCLE_ENDS = 1 / 25, 1e-4
"""Of one cycle, relative to the peak."""
_CYCLE_RISES = 0.3
"""Share of one cycle that rises, where the recipe names no warm-up."""


def learning_rate(recipe: Recipe, *, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step.

    Args:
        recipe: Peak, warm-up and schedule.
        step: From 0, over all epochs.
        steps_per_epoch: Steps in one epoch.
    """
    if recipe.schedule == "one_cycle":
        return recipe.learning_rate * _one_cycle(recipe, step, steps_per_epoch)
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
        case "step":
            falls = (step - warmup) // (recipe.step_epochs * steps_per_epoch)
            return recipe.learning_rate * recipe.step_factor**falls


def _one_cycle(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Up and down once (Smith, 2018, https://arxiv.org/abs/1803.09820, section 4), both along half a cosine."""
    last = recipe.epochs * steps_per_epoch - 1
    rising = recipe.warmup_epochs or _CYCLE_RISES * recipe.epochs
    top = max(0.0, rising * steps_per_epoch - 1)
    if step < top:
        return _along_a_cosine(_CYCLE_BEGINS, 1.0, step / top)
    return _along_a_cosine(1.0, _CYCLE_ENDS, (step - top) / (last - top) if top < last else 0.0)


def _along_a_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
