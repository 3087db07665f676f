"""Which epoch of a training is kept, how many there are, and what the training is worth.

The last epoch is kept, and not the one that validated best: on few validation rows the best of many validations is
mostly the luckiest, and a schedule that ends at zero leaves the best weights to the end. For the same reason a training
is worth the mean of its last validations.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.contract.metrics import Direction
from trimtab.contract.recipe import Recipe
from worker.data import TaskData
from worker.training.loop.state import Progress

MANY_ROWS = 250
"""From this many validation rows on, one validation tells a training's worth; the mean of several gains nothing."""


def averaged_epochs(rows: int) -> int:
    """Return the number of last validations whose mean is a trial's value.

    Args:
        rows: The number of rows of the validation split.
    """
    return 3 if rows < MANY_ROWS else 1


@dataclass(frozen=True, slots=True)
class EpochRule:
    """The rule of one training.

    Attributes:
        epochs: The number of epochs after which it ends.
        averaged: The number of validations whose mean it is worth.
        direction: Whether more or less of the objective is better.
        patience: The number of epochs without a gain after which it ends early; 0: never.
        min_gain: The gain in the objective that counts.
    """

    epochs: int
    averaged: int
    direction: Direction
    patience: int = 0
    min_gain: float = 0.0

    def ends(self, progress: Progress) -> bool:
        """Whether no further epoch follows."""
        return progress.epochs >= self.epochs or 0 < self.patience <= progress.stale

    def after(
        self,
        progress: Progress,
        value: float,
        *,
        adaptation_weight: float | None = None,
        metrics: Mapping[str, float] | None = None,
        seconds: float = 0.0,
    ) -> Progress:
        """Return the progress after one more epoch.

        Early stopping counts as what it is: the epoch that it holds best is kept, which is the one that raised the bar.

        Args:
            progress: The progress before the epoch.
            value: The objective value after it.
            adaptation_weight: The point between pretrained and trained weights that was chosen after it, if one was.
            metrics: All that was measured on the validation split after it.
            seconds: The seconds that it took.
        """
        sign = 1 if self.direction == "maximize" else -1
        # Gains below `min_gain` do not raise the bar: many small ones in a row must add up to it before the patience
        # begins anew.
        raised = progress.epochs == 0 or sign * (value - progress.bar) > self.min_gain
        kept = raised or not self.patience
        recent = (*progress.recent, value)[-self.averaged :]
        return Progress(
            epochs=progress.epochs + 1,
            kept_epoch=progress.epochs if kept else progress.kept_epoch,
            kept_values=recent if kept else progress.kept_values,
            recent=recent,
            bar=value if raised else progress.bar,
            stale=0 if raised else progress.stale + 1,
            adaptation_weight=adaptation_weight if kept else progress.adaptation_weight,
            kept_metrics=(metrics or {}) if kept else progress.kept_metrics,
            seconds=progress.seconds + seconds,
        )


def rule_of(data: TaskData, recipe: Recipe, epochs: int | None = None) -> EpochRule:
    """Return the rule of a training.

    Args:
        data: The splits. Where the validation split is empty, nothing ends the training early, and it is worth its
            last epoch's loss.
        recipe: The recipe that sets the number of epochs and early stopping.
        epochs: A smaller number of epochs; None: those of the recipe.
    """
    rows = len(data.validation)
    return EpochRule(
        epochs=recipe.epochs if epochs is None else min(epochs, recipe.epochs),
        averaged=averaged_epochs(rows) if rows else 1,
        direction=data.direction,
        patience=recipe.early_stopping_patience if rows else 0,
        min_gain=recipe.early_stopping_min_gain,
    )
