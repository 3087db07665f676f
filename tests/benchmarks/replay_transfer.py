"""What a search gains from studies of other tasks that are done, and what it loses where these say the opposite.

Each task of LCBench is searched alone; then with the three other ones as earlier studies, whole runs by `gp` of which the two
best configurations are taken over; then with the same studies of tasks that are upside down, where the worst configuration
counts as the best; then with those of tasks on which nothing is learned, whose best is the luckiest of all. A ratio is the median time to what the search alone has at some time, over its own time to it; below 1 is
sooner.
"""

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.domain.transfer import Earlier
from tests.benchmarks.replay_figures import Runs, lower_median, score_at, time_to
from tests.benchmarks.replay_ours import SEARCHES, OfRoom
from tests.benchmarks.replay_simulator import Replayed, replay
from tests.benchmarks.replay_tasks import LCBENCH, Curve, Point, Task

FULL_RUNS = 5.0
"""Twice as long as the last time at which searches are compared, so that one that takes twice as long is still measured."""
AT = (0.62, 1.25, 2.5)
"""The times at which they are compared, in full runs per worker."""
WAYS = ("ratio", "inverted", "chance")
CHANCE_SPREAD = 0.03
"""The standard deviation of what is measured where nothing is learned, as 280 samples of two classes have."""
EARLIER_SIDE, EARLIER_RUNS, EARLIER_WORKERS = "ours gp", 10.0, 4
"""How the earlier studies were searched: forty whole runs."""


def measure(
    tasks: Mapping[str, Task],
    *,
    seeds: int,
    workers: int = 4,
    side: str = "ours auto",
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Make all searches, tell of each seed, and return the geometric means over tasks and times, with what they are of."""
    alone: dict[str, dict[int, Replayed]] = {name: {} for name in tasks}
    others: dict[str, dict[str, dict[int, Replayed]]] = {
        way: {name: {} for name in tasks} for way in WAYS
    }
    for seed in range(seeds):
        done = {
            way: {name: _done(task, seed, way) for name, task in tasks.items()} for way in WAYS
        }
        for name, task in tasks.items():
            alone[name][seed] = _searched(task, side, seed, workers)
            for way in WAYS:
                earlier = [one for other, one in done[way].items() if other != name]
                others[way][name][seed] = _searched(task, side, seed, workers, earlier)
        say(f"transfer: {seed + 1} of {seeds} seeds")
    return _figures(alone, others, say)


def _done(task: Task, seed: int, way: str) -> Earlier:
    """Search a task as a study that is done would have, and return it; of those, all are equally near."""
    curves = {"inverted": _upside_down, "chance": _at_chance}
    if way in curves:
        task = replace(task, curve=curves[way](task))
    searcher = OfRoom(task, SEARCHES[EARLIER_SIDE], seed=seed)
    replay(
        searcher, task, workers=EARLIER_WORKERS, full_runs=EARLIER_RUNS, restart=0.0, seed=seed
    )
    ordered = sorted(searcher.completed, key=lambda one: -one.value)
    return Earlier(task.name, None, None, frozenset(LCBENCH), [one.point for one in ordered])


def _upside_down(task: Task) -> Callable[[Point, int], Curve]:
    def curve(point: Point, seed: int) -> Curve:
        found = task.curve(point, seed)
        return Curve([1 - one for one in found.told], found.scores, found.epoch_cost)

    return curve


def _at_chance(task: Task) -> Callable[[Point, int], Curve]:
    def curve(_: Point, seed: int) -> Curve:
        draws = random.Random(seed)
        told = [draws.gauss(0.5, CHANCE_SPREAD) for _ in range(task.epochs)]
        return Curve(told, told)

    return curve


def _searched(
    task: Task, side: str, seed: int, workers: int, earlier: Sequence[Earlier] = ()
) -> Replayed:
    searcher = OfRoom(task, SEARCHES[side], seed=seed, earlier=earlier)
    return replay(searcher, task, workers=workers, full_runs=FULL_RUNS, restart=0.0, seed=seed)


def ratio_at(ours: Runs, alone: Runs, at: float) -> float:
    """Return the median time to the median that the search alone has at a time, over its own; a lower bound if never."""
    target = statistics.median(score_at(run, at) for run in alone.values())
    own = lower_median(time_to(run, target) for run in alone.values())
    time = lower_median(time_to(run, target) for run in ours.values())
    return min(time, FULL_RUNS) / own


def _figures(
    alone: Mapping[str, Runs],
    others: Mapping[str, Mapping[str, Runs]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for way in WAYS:
        per_task = {
            name: [ratio_at(others[way][name], runs, at) for at in AT]
            for name, runs in alone.items()
        }
        every = [one for those in per_task.values() for one in those]
        found[way] = statistics.geometric_mean(every)
        found[f"{way}_per_task"] = per_task
        found[f"{way}_at"] = {
            str(at): statistics.geometric_mean([those[n] for those in per_task.values()])
            for n, at in enumerate(AT)
        }
        say(f"transfer, {way}: {found[way]:.2f}; at {AT} full runs {found[f'{way}_at']}")
        for name, those in per_task.items():
            say(f"  {name:<8} " + " ".join(f"{one:5.2f}" for one in those))
    return found
