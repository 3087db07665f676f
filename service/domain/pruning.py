"""Which trials are not worth another epoch, and why: each rule tells the numbers that it was decided by."""

from collections.abc import Sequence

from service.domain.facts import Curve
from trimtab.contract.metrics import Direction
from trimtab.contract.reasons import Reason

NOT_FINITE = "not_finite"
"""The rule's name where the last value was not finite, whichever pruner the study has."""
SHORTEST, LONGEST = 3, 17
"""The least and the most significant digits of a number in a reason; 17 tell any two floats apart."""


def median(
    curve: Curve,
    peers: Sequence[float],
    completed: int,
    *,
    direction: Direction,
    startup_trials: int,
    warmup_epochs: int,
    min_trials: int = 1,
) -> Reason | None:
    """Apply the median stopping rule after the last step of `curve`; return why the trial is to stop, or None.

    Prune when the best value of the trial so far is worse than the median of what the completed trials
    reported at the same step (Golovin et al., Google Vizier, KDD 2017, section 3.2.2; the verdicts are
    those of `optuna.pruners.MedianPruner`). One rule is ours, here and in the other rules: a last value that is
    not finite prunes at once, whatever the warm-up, where Optuna would go on as long as some earlier value was good.

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
    found = None
    if _may_judge(curve, peers, completed, startup_trials, warmup_epochs, min_trials):
        told = f"the median {{}} of {trials(len(peers))}"
        found = _short_of(curve, _at_share(peers, 0.5), direction, told)
    return _reason("median", curve, found)


def percentile(
    curve: Curve,
    peers: Sequence[float],
    completed: int,
    *,
    kept: float,
    direction: Direction,
    startup_trials: int,
    warmup_epochs: int,
    min_trials: int = 1,
) -> Reason | None:
    """Apply the percentile rule after the last step of `curve`; return why the trial is to stop, or None.

    As `median`, which keeps the best 50 per cent; the verdicts are those of `optuna.pruners.PercentilePruner`.

    Args:
        curve: the values that the trial reported, in the order of the steps.
        peers: the finite values of all completed trials at the last step of `curve`, or at the same share of their epochs,
            ascending.
        completed: the number of completed trials that count for the start-up.
        kept: the share of the completed trials, in per cent, whose values at the step a trial must reach to go on.
        direction: whether more or less is better.
        startup_trials: no trial is pruned before this many have completed.
        warmup_epochs: no trial is pruned at a step below this one.
        min_trials: no trial is pruned where there are fewer peers than this.
    """
    found = None
    if _may_judge(curve, peers, completed, startup_trials, warmup_epochs, min_trials):
        share = (100.0 - kept if direction == "maximize" else kept) / 100.0
        told = f"{{}}, which the best {kept:g} % of {trials(len(peers))} reached"
        found = _short_of(curve, _at_share(peers, share), direction, told)
    return _reason("percentile", curve, found)


def threshold(
    curve: Curve, *, lower: float | None, upper: float | None, warmup_epochs: int
) -> Reason | None:
    """Prune where the last value lies outside the bounds, as `optuna.pruners.ThresholdPruner`; return why, or None.

    Args:
        curve: the values that the trial reported, in the order of the steps.
        lower: the least value that goes on; None: any.
        upper: the greatest value that goes on; None: any.
        warmup_epochs: no trial is pruned at a step below this one.
    """
    return _reason("threshold", curve, _outside(curve, lower, upper, warmup_epochs))


def plateau(
    curve: Curve, *, patience: int, min_delta: float, warmup_epochs: int, direction: Direction
) -> Reason | None:
    """Prune where the last values fell short of the best before; return why the trial is to stop, or None.

    With a patience of n, the last n + 1 values are held against all before: the first of these may have been chance.
    The verdicts are those of `optuna.pruners.PatientPruner` without a pruner inside.

    Args:
        curve: the values that the trial reported, in the order of the steps.
        patience: the number of epochs, one more of which have to fall short.
        min_delta: the amount by which a value may fall short and still count as no worse.
        warmup_epochs: no trial is pruned at a step below this one.
        direction: whether more or less is better.
    """
    found = None
    if curve and curve[-1][0] >= warmup_epochs:
        found = _fell_short(curve, patience + 1, min_delta, direction)
    return _reason("plateau", curve, found)


def step_at_same_share(step: int, epochs: int, of: int) -> int:
    """The last step of a trial of `of` epochs that came at no greater a share than `step` of a trial of `epochs`; -1: none.

    A schedule spends its whole course on the epochs that there are: the first of 5 epochs is to be compared with the
    twentieth of 100, not with the first.
    """
    return (step + 1) * of // epochs - 1


def trials(count: int) -> str:
    """Return a number of completed trials in words."""
    return "1 completed trial" if count == 1 else f"{count} completed trials"


def _epochs(count: int) -> str:
    """Return a number of epochs in words."""
    return "1 epoch" if count == 1 else f"{count} epochs"


def apart(one: float, other: float) -> tuple[str, str]:
    """Return two numbers with three significant digits, or as many more as it takes to tell one from the other."""
    for digits in range(SHORTEST, LONGEST):
        shown = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if shown[0] != shown[1] or one == other:
            return shown
    return repr(one), repr(other)


def _reason(rule: str, curve: Curve, found: str | None) -> Reason | None:
    """Return what a rule found as a reason; a last value that is not finite outranks what it found."""
    if not curve:
        return None
    last_step, last_value = curve[-1]
    if last_value is None:
        told = f"Its value after {_epochs(last_step + 1)} is not a finite number."
        return Reason(rule=NOT_FINITE, text=told, epoch=last_step + 1)
    if found is None:
        return None
    return Reason(rule=rule, text=found, epoch=last_step + 1)


def _may_judge(
    curve: Curve,
    peers: Sequence[float],
    completed: int,
    startup_trials: int,
    warmup_epochs: int,
    min_trials: int,
) -> bool:
    if not curve or curve[-1][1] is None:
        return False
    last_step = curve[-1][0]
    if completed < startup_trials or last_step < warmup_epochs or not peers:
        return False
    return len(peers) >= min_trials


def _short_of(curve: Curve, bar: float, direction: Direction, told: str) -> str | None:
    """Tell how the best value so far is worse than a bar, which `told` has a place for; None: it is not."""
    best = _best(curve, direction)
    if not _is_worse(best, bar, direction):
        return None
    shown, against = apart(best, bar)
    after = _epochs(curve[-1][0] + 1)
    return f"Its best value {shown} after {after} is {_worse(direction)} {told.format(against)} at that point."


def _outside(
    curve: Curve, lower: float | None, upper: float | None, warmup_epochs: int
) -> str | None:
    if not curve or curve[-1][1] is None or curve[-1][0] < warmup_epochs:
        return None
    value, after = curve[-1][1], _epochs(curve[-1][0] + 1)
    if lower is not None and value < lower:
        shown, bound = apart(value, lower)
        return f"Its value {shown} after {after} is below the lower threshold {bound}."
    if upper is not None and value > upper:
        shown, bound = apart(value, upper)
        return f"Its value {shown} after {after} is above the upper threshold {bound}."
    return None


def _fell_short(curve: Curve, last: int, min_delta: float, direction: Direction) -> str | None:
    if all(value is None for _, value in curve[:-last]) or curve[-1][1] is None:
        return None
    best, recent = _best(curve[:-last], direction), _best(curve[-last:], direction)
    bar = best - min_delta if direction == "maximize" else best + min_delta
    if not _is_worse(recent, bar, direction):
        return None
    shown, before = apart(recent, best)
    by = f"more than {min_delta:g} " if min_delta else ""
    after = _epochs(curve[-1][0] + 1)
    return f"The best of its last {last} values after {after}, {shown}, is {by}{_worse(direction)} its best before, {before}."


def _best(curve: Curve, direction: Direction) -> float:
    values = [value for _, value in curve if value is not None]
    return max(values) if direction == "maximize" else min(values)


def _is_worse(value: float, bar: float, direction: Direction) -> bool:
    return value < bar if direction == "maximize" else value > bar


def _worse(direction: Direction) -> str:
    return "below" if direction == "maximize" else "above"


def _at_share(ascending: Sequence[float], share: float) -> float:
    """Return the value at a share, 0 to 1, of the way from the least to the greatest, between neighbours linearly."""
    place = (len(ascending) - 1) * share
    before = min(int(place), len(ascending) - 1)
    low, high = ascending[before], ascending[min(before + 1, len(ascending) - 1)]
    beyond = place - before
    # The order of these operations is numpy's, so that not even the last bit differs from Optuna's.
    if beyond >= 0.5:
        return high - (high - low) * (1.0 - beyond)
    return low + (high - low) * beyond
