"""How much sooner one side of the replay is than another, what each comes to, and how it gets there."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.replay_results import Run, Setting
from tests.benchmarks.replay_simulator import Replayed
from tests.benchmarks.replay_tasks import TASKS

Runs = Mapping[int, Replayed]
"""The searches of one side in one setting, by their seed."""
Sides = Mapping[str, Runs]
TPE, TPE_MEDIAN = "optuna tpe", "optuna tpe+median"
SHARES = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0}
"""Of the budget."""
PLOTTED = 40
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Ratio:
    """The time to a peer's median end value, over the peer's own time to it.

    Attributes:
        value: The ratio; below 1 is sooner.
        reached: Whether it was reached within the budget; if not, the value is a lower bound.
    """

    value: float
    reached: bool

    def __str__(self) -> str:
        return f"{'' if self.reached else '>'}{self.value:.2f}"


def score_at(run: Replayed, at: float) -> float:
    """Return what the best model so far is worth at a time; minus infinity before the first epoch has ended."""
    found = -math.inf
    for one in run.better:
        if one.at > at + 1e-9:
            break
        found = one.score
    return found


def time_to(run: Replayed, score: float) -> float:
    """Return when the best model so far was worth this much for the first time; infinity: never."""
    return next((one.at for one in run.better if one.score >= score), math.inf)


def lower_median(values: Iterable[float]) -> float:
    """Return the median, of an even number the lower of the two in the middle, so that infinity stays out while it can."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def ratio(ours: Runs, theirs: Runs, full_runs: float) -> Ratio:
    """Compare two sides by the median times to the median of what `theirs` ends with."""
    target = statistics.median(score_at(run, full_runs) for run in theirs.values())
    own = lower_median(time_to(run, target) for run in theirs.values())
    time = lower_median(time_to(run, target) for run in ours.values())
    return Ratio(min(time, full_runs) / own, math.isfinite(time))


def best_peer(sides: Sides, full_runs: float) -> str | None:
    """Return the peer of the best median end value; None where no peer has run."""
    peers = [name for name in sides if not name.startswith("ours")]
    return max(peers, default=None, key=lambda name: middle(sides[name], full_runs))


def middle(runs: Runs, at: float) -> float:
    """Return the median of what the searches have at a time."""
    return statistics.median(score_at(run, at) for run in runs.values())


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper one."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def pairs_won(ours: Runs, theirs: Runs, at: float) -> float:
    """Return the share of seeds in which ours has more at a time; a draw counts half."""
    seeds = ours.keys() & theirs.keys()
    won = 0.0
    for seed in seeds:
        one, other = score_at(ours[seed], at), score_at(theirs[seed], at)
        won += (one > other) + (one == other) / 2
    return won / len(seeds) if seeds else math.nan


def by_setting(done: Mapping[Run, Replayed]) -> dict[Setting, dict[str, dict[int, Replayed]]]:
    """Group results by their setting, side and seed."""
    found: dict[Setting, dict[str, dict[int, Replayed]]] = {}
    for run, result in done.items():
        found.setdefault(run.setting, {}).setdefault(run.side, {})[run.seed] = result
    return found


def ratios(sides: Sides, candidate: str, full_runs: float) -> dict[str, Ratio]:
    """Compare a side with TPE, with TPE and the median pruner, and with the best peer, as far as these have run."""
    best = best_peer(sides, full_runs)
    against = {"to_tpe": TPE, "to_tpe_median": TPE_MEDIAN, "to_best_peer": best}
    return {
        name: ratio(sides[candidate], sides[peer], full_runs)
        for name, peer in against.items()
        if peer is not None and peer in sides
    }


def figures(done: Mapping[Run, Replayed], candidate: str) -> dict[str, Any]:
    """Return the figures of a side as the last line has them."""
    settings = {
        setting: sides
        for setting, sides in sorted(by_setting(done).items())
        if candidate in sides
    }
    found: dict[str, Any] = {"candidate": candidate, "epochs_ratio": {}}
    for key in ("final_value", "pairs_won"):
        found[key] = {}
    for setting, sides in settings.items():
        workers = str(setting.workers)
        of_task = found["epochs_ratio"].setdefault(workers, {"per_task": {}})["per_task"]
        of_task[setting.name] = _told(sides, candidate, setting.full_runs)
        found["final_value"].setdefault(workers, {})[setting.name] = {
            side: quartiles([score_at(run, setting.full_runs) for run in runs.values()])
            for side, runs in sides.items()
        }
        if TPE_MEDIAN in sides:
            found["pairs_won"].setdefault(workers, {})[setting.name] = {
                share: pairs_won(
                    sides[candidate], sides[TPE_MEDIAN], of_budget * setting.full_runs
                )
                for share, of_budget in SHARES.items()
            }
    for of_workers in found["epochs_ratio"].values():
        of_workers |= _means(of_workers["per_task"])
    return found | {"decision_ms": decision_ms(done)}


def _told(sides: Sides, candidate: str, full_runs: float) -> dict[str, Any]:
    compared = ratios(sides, candidate, full_runs)
    return {
        **{name: one.value for name, one in compared.items()},
        "best_peer": best_peer(sides, full_runs),
        "after_one_run": {side: middle(runs, 1.0) for side, runs in sides.items()},
        "lower_bounds": [name for name, one in compared.items() if not one.reached],
    }


def _means(per_task: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the geometric means over the plain tasks."""
    plain = [one for name, one in per_task.items() if name in TASKS]
    return {
        name: statistics.geometric_mean([one[name] for one in plain])
        for name in ("to_tpe", "to_tpe_median", "to_best_peer")
        if plain and all(name in one for one in plain)
    }


def decision_ms(done: Mapping[Run, Replayed]) -> dict[str, dict[str, float]]:
    """Return the CPU milliseconds of claims and reports by side: medians over searches of their means."""
    by_side: dict[str, list[Replayed]] = {}
    for run, result in done.items():
        by_side.setdefault(run.side, []).append(result)
    return {
        side: {
            "claim": statistics.median(one.claim_ms for one in those),
            "report": statistics.median(one.report_ms for one in those),
        }
        for side, those in sorted(by_side.items())
    }


def table(setting: Setting, sides: Sides) -> list[str]:
    """Return the lines of a setting: what each side has along the way and in the end, and how it compares."""
    runs = max(len(those) for those in sides.values())
    return [
        f"{setting.name}: {setting.workers} workers, {setting.full_runs:g} full runs each, {runs} seeds",
        f"  {'':<22} {'1 run':>6} {'1/4':>6} {'1/2':>6}   end, quartiles          "
        "to tpe  +median  best peer   pairs won at 1/8 1/4 1/2 1",
        *(_row(setting, sides, name) for name in sorted(sides)),
        *plot(setting, sides),
    ]


def _row(setting: Setting, sides: Sides, name: str) -> str:
    runs, budget = sides[name], setting.full_runs
    way = " ".join(f"{middle(runs, at):6.2f}" for at in (1.0, budget / 4, budget / 2))
    low, median, high = quartiles([score_at(run, budget) for run in runs.values()])
    compared = ratios(sides, name, budget)
    against = " ".join(
        f"{compared.get(key, '-')!s:>8}" for key in ("to_tpe", "to_tpe_median", "to_best_peer")
    )
    won = ""
    if TPE_MEDIAN in sides:
        won = " ".join(
            f"{pairs_won(runs, sides[TPE_MEDIAN], share * budget):4.0%}"
            for share in SHARES.values()
        )
    return (
        f"  {name:<22} {way}   {median:6.2f} ({low:6.2f} to {high:6.2f}) {against}      {won}"
    )


def plot(setting: Setting, sides: Sides) -> list[str]:
    """Return a line for each side: the median value over the budget, from the least to the most of all sides."""
    times = [(n + 1) * setting.full_runs / PLOTTED for n in range(PLOTTED)]
    lines = {name: [middle(runs, at) for at in times] for name, runs in sides.items()}
    every = [value for line in lines.values() for value in line if math.isfinite(value)]
    low, high = min(every), max(every)
    return [f"  {low:.1f} to {high:.1f} over the budget"] + [
        f"  {name:<22} {''.join(_bar(value, low, high) for value in lines[name])}"
        for name in sorted(lines, key=lambda name: -lines[name][-1])
    ]


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    share = (value - low) / (high - low) if high > low else 1.0
    return BARS[min(int(share * len(BARS)), len(BARS) - 1)]
