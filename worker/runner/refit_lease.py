"""A refit: the recipe of a chosen trial, trained anew on train and validation together.

All else of it is a trial's: it is trained epoch by epoch, saves checkpoints and resumes from them (`trial.py`).
"""

import logging
from dataclasses import dataclass

from worker.pipe_messages import RunTrial, SavedState
from worker.training.errors import CheckpointError
from worker.training.loop.state import FitState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefitPlan:
    """What a refit takes over from its trial, since it has no validation split to choose by.

    Attributes:
        epochs: The number of epochs; None: all of the recipe.
        adaptation_weight: The point between pretrained and trained weights; None where the trial has told none.
    """

    epochs: int | None = None
    adaptation_weight: float | None = None


def plan_of(order: RunTrial) -> RefitPlan:
    """Return what a refit takes over from the state that its trial has kept; nothing for a lease that is no refit."""
    lease = order.lease
    if lease.kind != "refit":
        return RefitPlan()
    kept = lease.members[0].validated if lease.members else None
    saved = order.members[0].validated if order.members else None
    return RefitPlan(
        epochs=None if kept is None else kept.step + 1,
        adaptation_weight=None if saved is None else _adaptation_weight(saved),
    )


def _adaptation_weight(saved: SavedState) -> float | None:
    try:
        return FitState.load(saved.path).progress.adaptation_weight
    except CheckpointError as error:
        log.warning("the trial's checkpoint cannot be used for its refit: %s", error)
        return None
