"""What a search gains from studies of other tasks that are done, and what it loses where these say the opposite.

Each task of LCBench is searched alone, then with the three other ones as earlier studies, which give the two best
configurations of their own searches; then with the two worst of each, as studies whose values are upside down would give.
A ratio is the median time to what the search alone has at some time, over its own time to it; below 1 is sooner.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.domain.transfer import Earlier
from tests.benchmarks.replay_figures import Runs, lower_median, score_at, time_to
from tests.benchmarks.replay_ours import SEARCHES, OfRoom, Tried
from tests.benchmarks.replay_simulator import Replayed, replay
from tests.benchmarks.replay_tasks import LCBENCH, Task

FULL_RUNS = 5.0
"""Twice as long as the last time at which searches are compared, so that one that takes twice as long is still measured."""
AT = (0.62, 1.25, 2.5)
"""The times at which they are compared, in full runs per worker."""
WAYS = ("ratio", "inverted")


@dataclass(frozen=True)
class Searched:
    """What a search came to, and what it has tried."""

    result: Replayed
    tried: Sequence[Tried]


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
        done = {name: _searched(task, side, seed, workers, ()) for name, task in tasks.items()}
        for name, task in tasks.items():
            alone[name][seed] = done[name].result
            for way in WAYS:
                earlier = list(_earlier(done, name, inverted=way == "inverted"))
                found = _searched(task, side, seed, workers, earlier)
                others[way][name][seed] = found.result
        say(f"transfer: {seed + 1} of {seeds} seeds")
    return _figures(alone, others, say)


def _searched(
    task: Task, side: str, seed: int, workers: int, earlier: Sequence[Earlier]
) -> Searched:
    searcher = OfRoom(task, SEARCHES[side], seed=seed, earlier=earlier)
    result = replay(
        searcher, task, workers=workers, full_runs=FULL_RUNS, restart=0.0, seed=seed
    )
    return Searched(result, searcher.completed)


def _earlier(done: Mapping[str, Searched], name: str, *, inverted: bool) -> Iterator[Earlier]:
    """Yield the searches of the other tasks as studies that are done; all are equally near."""
    for other, searched in done.items():
        if other != name:
            ordered = sorted(searched.tried, key=lambda one: one.value, reverse=not inverted)
            best = [one.point for one in ordered]
            yield Earlier(other, None, None, frozenset(LCBENCH), best)


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
