"""The quality and the cost of our proposals against plain Optuna's TPE, side by side in one run.

`python -m tests.benchmarks.search [--seeds 20] [--trials 100] [--json]`

Regret is what the best of a study's trials lacks to the known optimum of a test function, under simulated
workers that take different times; CPU is that of one proposal with so many finished trials before it.
"""

import argparse
import heapq
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import optuna
from rich.console import Console

from service.domain.facts import TrialFacts
from service.sampling import Proposal, Sampling
from service.sampling.distributions import distributions
from service.sampling.sampling import LARGEST_SHOWN
from tests.unit.sampling.ledger import Ledger, any_values, document
from trimtab.contract.search_space import Dimension, FloatRange, Scalar

Point = Mapping[str, Scalar]

# Picheny, Wagner & Ginsbourger, "A benchmark of kriging-based infill criteria", 2013.
ALPHA = (1.0, 1.2, 3.0, 3.2)
A = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def _hartmann6(x: Sequence[float]) -> float:
    total = 0.0
    for alpha, scale, centre in zip(ALPHA, A, P, strict=True):
        distance = sum(a * (v - p) ** 2 for a, v, p in zip(scale, x, centre, strict=True))
        total += alpha * math.exp(-distance)
    return total


def _rastrigin(x: Sequence[float]) -> float:
    return -sum(v * v - 10 * math.cos(2 * math.pi * v) + 10 for v in x)


@dataclass(frozen=True)
class Function:
    """A function to maximise over a cube."""

    name: str
    dimensions: int
    low: float
    high: float
    optimum: float
    at: Callable[[Sequence[float]], float]

    @property
    def space(self) -> dict[str, Dimension]:
        side = FloatRange(kind="float", low=self.low, high=self.high)
        return {f"x{n}": side for n in range(self.dimensions)}

    def value(self, point: Point) -> float:
        return self.at([float(point[name] or 0) for name in self.space])


FUNCTIONS = (
    Function("hartmann6", 6, 0.0, 1.0, 3.32237, _hartmann6),
    Function("rastrigin4", 4, -5.12, 5.12, 0.0, _rastrigin),
)


class Searcher(Protocol):
    """A study under search: trials are asked for and told."""

    def ask(self) -> tuple[int, Point]: ...

    def tell(self, number: int, value: float) -> None: ...


class Ours:
    """The sampling room over a history in memory."""

    def __init__(self, function: Function, seed: int, cap: int | None = LARGEST_SHOWN) -> None:
        # No worker understands x0, x1, ...: past the document's own check, with another space.
        update = {"space": function.space}
        self._document = document(seed=seed).model_copy(update=update)
        self._ledger = Ledger()
        self._sampling = Sampling(self._ledger.read, time.monotonic, largest_shown=cap)
        self._points: list[Point] = []

    def add(self, point: Point, value: float) -> None:
        self._points.append(point)
        self.tell(len(self._points) - 1, value)

    def ask(self) -> tuple[int, Point]:
        number = len(self._points)
        with self._sampling.proposal(
            1, self._document, claim_id=str(number), next_number=number
        ) as proposal:
            assert isinstance(proposal, Proposal)
            self._ledger.commit(TrialFacts(number, "running", proposal.values))
            self._points.append(proposal.values)
        return number, proposal.values

    def tell(self, number: int, value: float) -> None:
        self._ledger.commit(TrialFacts(number, "completed", self._points[number], (), value))

    def abandon(self, number: int) -> None:
        self._ledger.commit(TrialFacts(number, "cancelled", self._points[number]))


class Optunas:
    """Plain Optuna in memory: TPE, multivariate, with the constant liar."""

    def __init__(self, function: Function, seed: int) -> None:
        sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._space = dict(distributions(function.space))

    def add(self, point: Point, value: float) -> None:
        self._study.add_trial(
            optuna.create_trial(params=dict(point), distributions=self._space, value=value)
        )

    def ask(self) -> tuple[int, Point]:
        trial = self._study.ask(self._space)
        return trial.number, trial.params

    def tell(self, number: int, value: float) -> None:
        self._study.tell(number, value)

    def abandon(self, number: int) -> None:
        self._study.tell(number, state=optuna.trial.TrialState.FAIL)


def _regret(
    searcher: Searcher, function: Function, trials: int, workers: int, seed: int
) -> float:
    """Run a study with simulated workers; a trial takes between half and one and a half units of time."""
    durations, best = random.Random(seed), -math.inf
    running: list[tuple[float, int, Point]] = []
    now = 0.0
    for asked in range(trials + workers):
        if asked >= workers:
            now, number, point = heapq.heappop(running)
            value = function.value(point)
            searcher.tell(number, value)
            best = max(best, value)
        if asked < trials:
            heapq.heappush(running, (now + durations.uniform(0.5, 1.5), *searcher.ask()))
    return function.optimum - best


def _compare(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    lower = sum((a < b) + (a == b) / 2 for a in ours for b in theirs)
    pairs = len(ours) * len(theirs)
    return {
        "ours": _quartiles(ours),
        "theirs": _quartiles(theirs),
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "chance_ours_is_lower": lower / pairs,
        # The standard error of that chance where both are alike (Mann and Whitney, 1947).
        "noise": math.sqrt((len(ours) + len(theirs) + 1) / 12 / pairs),
    }


def _quartiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive")


def regrets(seeds: int, trials: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Compare the regret of both with 1, 8 and 32 workers."""
    found: dict[str, Any] = {}
    for function in FUNCTIONS:
        for workers in (1, 8, 32):
            ours, theirs = list[float](), list[float]()
            for seed in range(seeds):
                case = (function, trials, workers, seed)
                ours.append(_regret(Ours(function, seed), *case))
                theirs.append(_regret(Optunas(function, seed), *case))
            compared = found[f"{function.name}/{workers}"] = _compare(ours, theirs)
            say(_line(f"{function.name}, {workers} workers", "Optuna", compared))
    return found


def caps(seeds: int, trials: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Compare the capped history with the whole one, in studies longer than the cap."""
    found: dict[str, Any] = {}
    for function in FUNCTIONS:
        case = (function, trials, 8)
        ours = [_regret(Ours(function, seed), *case, seed) for seed in range(seeds)]
        whole = [_regret(Ours(function, seed, None), *case, seed) for seed in range(seeds)]
        compared = found[function.name] = _compare(ours, whole)
        say(_line(f"{function.name}, capped at {LARGEST_SHOWN}", "uncapped", compared))
    return found


def cpu(finished: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """Measure the CPU milliseconds of a proposal: median of 15, after one that loads the history."""
    found: dict[str, Any] = {}
    for dimensions in (3, 10):
        cube = Function("cube", dimensions, 0.0, 1.0, 0.0, sum)
        for count in finished:
            ours, theirs = (
                _cpu_ms(side, cube, count) for side in (Ours(cube, 0), Optunas(cube, 0))
            )
            found[f"{dimensions}/{count}"] = {
                "ours": ours,
                "theirs": theirs,
                "ratio": ours / theirs,
            }
            say(
                f"{dimensions} dimensions, {count:>6} finished: ours {ours:.1f} ms, "
                f"Optuna {theirs:.1f} ms, ratio {ours / theirs:.2f}"
            )
    return found


def _cpu_ms(side: Ours | Optunas, function: Function, finished: int) -> float:
    rng, spent = random.Random(0), list[float]()
    for _ in range(finished):
        point = any_values(function.space, rng)
        side.add(point, function.value(point))
    for _ in range(16):
        start = time.process_time()
        number, _ = side.ask()
        spent.append(1e3 * (time.process_time() - start))
        side.abandon(number)
    return statistics.median(spent[1:])


def _line(name: str, other: str, compared: Mapping[str, Any]) -> str:
    ours, theirs = (
        " ".join(f"{value:.3g}" for value in compared[side]) for side in ("ours", "theirs")
    )
    return (
        f"{name}: ours {ours} | {other} {theirs} | ratio of medians {compared['ratio']:.2f}, "
        f"ours lower in {compared['chance_ours_is_lower']:.0%} of pairs (50% \u00b1 {compared['noise']:.0%} if alike)"
    )


def main() -> None:
    """Run all three comparisons; with --json the last line is one JSON object of their figures."""
    parser = argparse.ArgumentParser(description="proposals against plain Optuna's TPE")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--capped-trials", type=int, default=600)
    parser.add_argument("--finished", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"regret after {options.trials} trials, {options.seeds} seeds (quartiles)")
    figures = {"regret": regrets(options.seeds, options.trials, console.print)}
    console.print(f"regret after {options.capped_trials} trials, 8 workers (quartiles)")
    figures["cap"] = caps(options.seeds, options.capped_trials, console.print)
    console.print("CPU of one proposal (median of 15)")
    figures["cpu_ms_per_proposal"] = cpu(options.finished, console.print)
    if options.json:
        console.out(json.dumps(figures))


if __name__ == "__main__":
    main()
