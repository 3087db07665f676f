"""What the sides of `./run bench outcome` came to, kept in a file, and how they differ."""

import json
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESAMPLED = 10_000


@dataclass(frozen=True)
class Done:
    """One side of one study of one task.

    Attributes:
        study: the number of the study; all sides of the same number see the same pictures.
        accuracies: on the test pictures: of the model that the side came to, or of one for each seed.
        epochs: of training that it took, refits included.
        device_s: the seconds in which workers had trials of it, where the product tells them.
        cpu_s: that it took where it ran in this process, for one seed.
        validation: the validation value that the side tells of its model, where it has one.
        more: accuracies on further pictures of the same kind, `handed_over` and `validated`; empty: there are none.
        report: the product's final report.
    """

    task: str
    study: int
    side: str
    accuracies: tuple[float, ...]
    epochs: int
    device_s: float | None = None
    cpu_s: float | None = None
    validation: float | None = None
    more: Mapping[str, float] | None = None
    report: Mapping[str, Any] | None = None

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.accuracies)


class Kept:
    """All results so far; with a file they outlive the run, and what is in it is not run again."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self._done = {_key(one): one for one in map(_read, lines)}

    def has(self, task: str, study: int, side: str) -> bool:
        """Whether this one has been run."""
        return (task, study, side) in self._done

    def add(self, done: Done) -> None:
        """Keep a result."""
        self._done[_key(done)] = done
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(asdict(done)) + "\n")

    def of(self, tasks: Iterable[str], studies: int) -> list[Done]:
        """Return what is known of these tasks and this many studies."""
        wanted = set(tasks)
        return [
            one for one in self._done.values() if one.task in wanted and one.study < studies
        ]


def _key(done: Done) -> tuple[str, int, str]:
    return done.task, done.study, done.side


def _read(line: str) -> Done:
    fields: dict[str, Any] = json.loads(line)
    return Done(accuracies=tuple(fields.pop("accuracies")), **fields)


@dataclass(frozen=True)
class Gain:
    """By how many points one side is better than another, paired by study.

    Attributes:
        points: the mean over tasks of the means over their studies.
        interval: its 95 % bootstrap interval, studies drawn within each task; None of a single study a task.
        tasks: the mean of each task.
        studies: how many there are in all.
    """

    points: float
    interval: tuple[float, float] | None
    tasks: Mapping[str, float]
    studies: int


def gain(results: Sequence[Done], ours: str, theirs: str) -> Gain | None:
    """Compare two sides where both were run; None: nowhere."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for one in results:
        found.setdefault((one.task, one.study), {})[one.side] = 100 * one.accuracy
    pairs: dict[str, list[float]] = {}
    for (task, _), sides in found.items():
        if ours in sides and theirs in sides:
            pairs.setdefault(task, []).append(sides[ours] - sides[theirs])
    if not pairs:
        return None
    tasks = {task: statistics.fmean(those) for task, those in pairs.items()}
    return Gain(
        statistics.fmean(tasks.values()),
        _interval(list(pairs.values())),
        tasks,
        sum(map(len, pairs.values())),
    )


def _interval(pairs: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    if max(map(len, pairs)) == 1:
        return None
    rng = random.Random(0)
    means = sorted(
        statistics.fmean(statistics.fmean(rng.choices(those, k=len(those))) for those in pairs)
        for _ in range(RESAMPLED)
    )
    return means[int(0.025 * RESAMPLED)], means[int(0.975 * RESAMPLED)]


ALONE = "ensemble_alone"
"""What `ensemble` would have handed over of the same trials and the same refit, had one model been asked for."""
WITHOUT_UNTRAINED = "without_untrained"
"""What `single` would have handed over if models that no trial has trained could not be chosen."""


def reported(results: Iterable[Done]) -> list[Done]:
    """Read from the reports what else could have been handed over of the same search: two searches differ by chance, one does not."""
    found: list[Done] = []
    for one in results:
        if one.report is None or one.side not in ("single", "ensemble"):
            continue
        known = {told["kind"]: told for told in one.report["candidates"]}
        # The rule of the product: what no trial has trained takes over where it is better on the validation split.
        untrained = [known[kind] for kind in ("linear_probe", "before") if kind in known]
        side, others = (ALONE, untrained) if one.side == "ensemble" else (WITHOUT_UNTRAINED, [])
        best = max([known["refit"], *others], key=lambda told: told["validation_value"])
        found.append(Done(one.task, one.study, side, (best["test"]["value"],), one.epochs))
    return found


def coverage(results: Iterable[Done]) -> dict[str, dict[str, float]]:
    """Return how often the product's intervals hold what a larger test found, and how far their values are above it.

    `test` is the interval of the model that is handed over; `corrected` and `naive` are of the winner as validated.
    """
    told: dict[str, list[tuple[bool | None, float]]] = {
        "test": [],
        "corrected": [],
        "naive": [],
    }
    for one in results:
        if not one.more or not one.report:
            continue
        told["test"].append(_held(one.report["test"], one.more["handed_over"]))
        if (corrected := one.report["corrected"]) is not None:
            told["corrected"].append(_held(corrected["value"], one.more["validated"]))
        if one.validation is not None:
            told["naive"].append((None, one.validation - one.more["validated"]))
    return {name: _covered(those) for name, those in told.items() if those}


def _held(interval: Mapping[str, float], true: float) -> tuple[bool, float]:
    return interval["low"] <= true <= interval["high"], interval["value"] - true


def _covered(those: Sequence[tuple[bool | None, float]]) -> dict[str, float]:
    figures = {
        "optimism": 100 * statistics.fmean(above for _, above in those),
        "of": len(those),
    }
    held = [one for one, _ in those if one is not None]
    return {"held": statistics.fmean(held), **figures} if held else figures
