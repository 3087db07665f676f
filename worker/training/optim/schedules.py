"""Learning rate schedules.

The learning rate is a function of the step alone, so that a checkpoint holds no state of the schedule.
"""

import math

from trimtab.contract.recipe import Recipe

_CYCLE_BEGINS, _CYCLE_ENDS = 1 / 25, 1e-4
"""The first and the last learning rate of the one-cycle schedule, as factors of the peak."""
_CYCLE_RISES = 0.3
"""The share of the one-cycle schedule that rises, unless the recipe names a warm-up."""


def learning_rate(recipe: Recipe, *, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step.

    `linear`, `cosine`, `step` and `constant` begin after a linear warm-up (Goyal et al., 2017,
    https://arxiv.org/abs/1706.02677, section 2.2). `cosine` is half a cosine without restarts (Loshchilov and Hutter,
    2017, https://arxiv.org/abs/1608.03983, equation 5). `one_cycle` has its warm-up inside.

    Args:
        recipe: The recipe that names the schedule, the peak learning rate and the warm-up.
        step: The number of the step over all epochs, from 0.
        steps_per_epoch: The number of steps in one epoch.
    """
    if recipe.schedule == "one_cycle":
        return recipe.learning_rate * _one_cycle(recipe, step, steps_per_epoch)
    warmup = _warmup_epochs(recipe) * steps_per_epoch
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


def _warmup_epochs(recipe: Recipe) -> float:
    """Return the epochs in which the learning rate rises; 0 where the recipe names no warm-up."""
    return max(recipe.warmup_epochs, recipe.warmup_share * recipe.epochs)


def _one_cycle(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the factor of the one-cycle schedule: up to the peak and down again, each along half a cosine.

    Source: Smith, 2018, https://arxiv.org/abs/1803.09820, section 4, whose two lines are straight.
    """
    last = recipe.epochs * steps_per_epoch - 1
    rising = _warmup_epochs(recipe) or _CYCLE_RISES * recipe.epochs
    top = max(0.0, rising * steps_per_epoch - 1)
    if step < top:
        return _along_a_cosine(_CYCLE_BEGINS, 1.0, step / top)
    return _along_a_cosine(1.0, _CYCLE_ENDS, (step - top) / (last - top) if top < last else 0.0)


def _along_a_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
