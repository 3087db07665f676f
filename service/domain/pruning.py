"""Which trials are not worth another epoch."""

from collections.abc import Sequence

from service.domain.facts import Curve
from trimtab.contract.metrics import Direction


def median(
    curve: Curve,
    peers: Sequence[float],
    completed: int,
    *,
    direction: Direction,
    startup_trials: int,
    warmup_epochs: int,
    min_trials: int = 1,
) -> bool:
    """Apply the median stopping rule after the last step of `curve`.

    Prune when the best value of the trial so far is worse than the median of what the completed trials
    reported at the same step (Golovin et al., Google Vizier, KDD 2017, section 3.2.2; the verdicts are
    those of `optuna.pruners.MedianPruner`). One rule is ours: a last value that is not finite prunes at
    once, whatever the warm-up, where Optuna would go on as long as some earlier value was good.

    Args:
        curve: the values that the trial reported, in the order of the steps.
        peers: the finite values of all completed trials at the last step of `curve`, or at the same share of their epochs,
            ascending.
        completed: the number of completed trials that count for the start-up: all of the study, or the peers where epochs
            differ.
        direction: whether more or less is better.
        startup_trials: no trial is pruned before this many have completed.
        warmup_epochs: no trial is pruned at a step below this one.
        min_trials: no trial is pruned where there are fewer peers than this.
    """
    if not curve:
        return False
    last_step, last_value = curve[-1]
    if last_value is None:
        return True
    if completed < startup_trials or last_step < warmup_epochs or not peers:
        return False
    if len(peers) < min_trials:
        return False
    values = [value for _, value in curve if value is not None]
    if direction == "maximize":
        return max(values) < _median(peers)
    return min(values) > _median(peers)


def step_at_same_share(step: int, epochs: int, of: int) -> int:
    """The last step of a trial of `of` epochs that came at no greater a share than `step` of a trial of `epochs`; -1: none.

    A schedule spends its whole course on the epochs that there are: the first of 5 epochs is to be compared with the
    twentieth of 100, not with the first.
    """
    return (step + 1) * of // epochs - 1


def _median(ascending: Sequence[float]) -> float:
    low = ascending[(len(ascending) - 1) // 2]
    high = ascending[len(ascending) // 2]
    # The order of these operations is numpy's, so that not even the last bit differs from Optuna's.
    return high - (high - low) * 0.5
