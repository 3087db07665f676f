"""The figures of `./run bench outcome`, as lines for a person and as JSON."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.outcome_results import ALONE, Done, Gain, coverage, gain, reported
from tests.benchmarks.outcome_tasks import JOBS

CHOSEN_ON = tuple(job.name for job in JOBS if job.chosen_on)
HEADLINES: Mapping[str, tuple[str, str]] = {
    "to_plain": ("single", "plain"),
    "to_optuna": ("single", "optuna"),
    "ensemble": ("ensemble", "single"),
    "ensemble_same_search": ("ensemble", ALONE),
    "ensemble_to_plain": ("ensemble", "plain"),
    "ensemble_to_optuna": ("ensemble", "optuna"),
    "optuna_to_plain": ("optuna", "plain"),
    "live": ("live_auto", "live_tpe"),
    "live_validated": ("live_auto_validated", "live_tpe_validated"),
}
"""Which side is held against which."""
WITHOUT = "without_"


@dataclass(frozen=True)
class Comparison:
    """One side held against another.

    Attributes:
        gains: of all tasks, of those on which nothing was chosen (`unseen`), and of the others.
    """

    name: str
    ours: str
    theirs: str
    gains: Mapping[str, Gain]

    @property
    def whole(self) -> Gain:
        """The gain on all tasks."""
        return self.gains["all"]


def comparisons(results: Sequence[Done]) -> list[Comparison]:
    """Compare the sides that were run, the greatest loss first."""
    results = [*results, *reported(results)]
    sides = dict.fromkeys(one.side for one in results)
    pairs = {
        **HEADLINES,
        **{side: (side, _whole(side)) for side in sides if WITHOUT in side},
    }
    parts = {
        "unseen": [one for one in results if one.task not in CHOSEN_ON],
        "used_for_choosing": [one for one in results if one.task in CHOSEN_ON],
        "all": results,
    }
    found: list[Comparison] = []
    for name, (ours, theirs) in pairs.items():
        gains = {part: gain(those, ours, theirs) for part, those in parts.items()}
        known = {part: one for part, one in gains.items() if one is not None}
        if known:
            found.append(Comparison(name, ours, theirs, known))
    return sorted(found, key=lambda one: one.whole.points)


def _whole(side: str) -> str:
    """Return the side that this one is without a part of."""
    return side.partition(WITHOUT)[0].rstrip("_") or "single"


def lines(results: Sequence[Done]) -> list[str]:
    """Return accuracies by task, then the differences, then how far the intervals can be trusted."""
    told = [*_accuracies(results)]
    for one in comparisons(results):
        told += [
            f"{one.ours} less {one.theirs}, {part} ({found.studies} studies): {_points(found)}"
            for part, found in one.gains.items()
        ]
        tasks = sorted(one.whole.tasks.items(), key=lambda pair: pair[1])
        told.append("    " + ", ".join(f"{task} {points:+.1f}" for task, points in tasks))
    for name, said in coverage(results).items():
        figures = ", ".join(f"{word} {value:.3g}" for word, value in said.items())
        told.append(f"coverage, {name}: {figures}")
    return told


def figures(results: Sequence[Done]) -> dict[str, Any]:
    """Return the figures: points by task of the headlines, points of what is left out, means with their intervals."""
    compared = comparisons(results)
    by_name = {one.name: one for one in compared}
    return {
        **{name: by_name[name].whole.tasks for name in HEADLINES if name in by_name},
        "without": {
            one.name.partition(WITHOUT)[2]: one.whole.points
            for one in compared
            if WITHOUT in one.name
        },
        "means": {
            one.name: {p: _mean(found) for p, found in one.gains.items()} for one in compared
        },
        "coverage": coverage(results),
        "tasks_used_for_choosing": CHOSEN_ON,
    }


def line(task: str, study: int | str, side: str, values: Iterable[float], epochs: int) -> str:
    """Return one side's accuracies as a row."""
    told = " ".join(f"{100 * one:.1f}" for one in values)
    return f"{task:>14} {study:>3} {side:<31} {told} % ({epochs} epochs)"


def _accuracies(results: Sequence[Done]) -> Iterable[str]:
    keys = dict.fromkeys((one.task, one.side) for one in results)
    for task, side in sorted(keys):
        those = [one for one in results if (one.task, one.side) == (task, side)]
        epochs = round(statistics.fmean(one.epochs for one in those))
        yield line(task, "all", side, [one.accuracy for one in those], epochs)


def _mean(found: Gain) -> dict[str, Any]:
    return {"points": found.points, "interval": found.interval, "studies": found.studies}


def _points(found: Gain) -> str:
    if found.interval is None:
        return f"{found.points:+.1f} points"
    return f"{found.points:+.1f} points ({found.interval[0]:+.1f} to {found.interval[1]:+.1f})"
