"""Which trial is best."""

import math
from collections.abc import Iterable

from service.domain.facts import TrialFacts
from trimtab.contract.metrics import Direction


def best(trials: Iterable[TrialFacts], direction: Direction) -> TrialFacts | None:
    """Return the completed trial of the best finite value, among equals the one of the lowest number."""
    sign = -1 if direction == "maximize" else 1
    ranked = [
        (sign * trial.value, trial.number, trial)
        for trial in trials
        if trial.state == "completed" and trial.value is not None and math.isfinite(trial.value)
    ]
    return min(ranked, key=lambda entry: entry[:2])[2] if ranked else None
