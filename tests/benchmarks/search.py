"""The quality and the cost of our proposals against plain Optuna's TPE, side by side in one run.

`./run bench search [--parts regret caps cpu replay] [--seeds 20] [--trials 100] [--before FOLDER] [--json]`

Regret is what the best of a study's trials lacks to the known optimum of a test function, under simulated
workers that take different times; CPU is that of one proposal with so many finished trials before it.

`--before FOLDER` measures the CPU of another checkout of this project too, run by its own `.venv`, in turns with ours, with
eight trials running; `--seeds 0` leaves the studies out.

Ours seeds each proposal from (study, claim), Optuna draws all of them from one stream. So four sides run: ours, ours through Optuna's
kernels, plain Optuna, and its twin, Optuna seeded as ours is. Ours and the twin share every random number: whatever else our
sampling room did differently would show as a trial that is not the same, to the last bit through Optuna's kernels, and to the
last digits in arrays. What is left between ours and plain Optuna is then the luck of the seeds, and both distributions are
printed with the interval and the p of their difference.

`--before FOLDER` measures, beside the CPU of plain Optuna, that of another checkout of this project, run by its own `.venv`, in
turns with ours, with eight trials running.

`replay` searches over real learning curves: `./run bench replay` has its own options, and keeps what it has done.
"""

import argparse
import heapq
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from service.sampling.sampling import LARGEST_SHOWN
from tests.benchmarks import replay, search_cpu
from tests.benchmarks.comparing import compare
from tests.benchmarks.search_sides import (
    FUNCTIONS,
    Exact,
    Function,
    Optunas,
    Ours,
    Point,
    Searcher,
    Twin,
)
from tests.unit.sampling.ledger import any_values

WORKERS = (1, 8, 32)
PARTS = ("regret", "caps", "cpu", "replay")
Values = tuple[float, ...]
"""The values of a study's trials, in the order in which they ended."""


def searched(
    searcher: Searcher, function: Function, trials: int, workers: int, seed: int
) -> Values:
    """Run a study with simulated workers; a trial takes between half and one and a half units of time."""
    durations, values = random.Random(seed), list[float]()
    running: list[tuple[float, int, Point]] = []
    now = 0.0
    for asked in range(trials + workers):
        if asked >= workers:
            now, number, point = heapq.heappop(running)
            values.append(function.value(point))
            searcher.tell(number, values[-1])
        if asked < trials:
            heapq.heappush(running, (now + durations.uniform(0.5, 1.5), *searcher.ask()))
    return tuple(values)


def _regrets(function: Function, studies: Sequence[Values]) -> list[float]:
    return [function.optimum - max(values) for values in studies]


def _compared(ours: list[float], other: str, theirs: list[float]) -> dict[str, Any]:
    return {"ours": ours, other: theirs, **asdict(compare(ours, theirs))}


def regrets(seeds: int, trials: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Compare the regret of both with 1, 8 and 32 workers, and ours with its twin trial by trial."""
    found: dict[str, Any] = {}
    for function in FUNCTIONS:
        for workers in WORKERS:
            ours, exact, twins, theirs = (
                [
                    searched(side(function, seed), function, trials, workers, seed)
                    for seed in range(seeds)
                ]
                for side in (Ours, Exact, Twin, Optunas)
            )
            compared = _compared(_regrets(function, ours), "optuna", _regrets(function, theirs))
            compared["same_as_twin"] = sum(
                one == twin for one, twin in zip(exact, twins, strict=True)
            )
            compared["alike_to_twin"] = sum(map(_alike, ours, twins))
            found.setdefault(function.name, {})[workers] = compared
            say(_line(f"{function.name}, {workers} workers", "optuna", compared))
            say(
                f"    as Optuna seeded alike: {compared['same_as_twin']} of {seeds} studies to the last bit through its "
                f"kernels, {compared['alike_to_twin']} in arrays but for the last digits"
            )
    return found


def _alike(one: Values, other: Values) -> bool:
    """Whether trial after trial has come to the same value, but for the last digits."""
    return all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6) for a, b in zip(one, other, strict=True)
    )


def caps(seeds: int, trials: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Compare the capped history with the whole one, in studies longer than the cap."""
    found: dict[str, Any] = {}
    for function in FUNCTIONS:
        capped, whole = (
            [
                searched(Ours(function, seed, cap), function, trials, 8, seed)
                for seed in range(seeds)
            ]
            for cap in (LARGEST_SHOWN, None)
        )
        compared = _compared(_regrets(function, capped), "uncapped", _regrets(function, whole))
        found[function.name] = compared
        say(_line(f"{function.name}, capped at {LARGEST_SHOWN}", "uncapped", compared))
    return found


def shaped(compared: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[str, Any]:
    """Split the comparisons into what was measured (`regret`) and what follows from it (`difference`)."""

    def pick(wanted: Callable[[str], bool]) -> dict[str, Any]:
        return {
            function: {
                workers: {key: value for key, value in one.items() if wanted(key)}
                for workers, one in by_workers.items()
            }
            for function, by_workers in compared.items()
        }

    measured = {"ours", "optuna"}
    return {
        "regret": pick(lambda key: key in measured),
        "difference": pick(lambda key: key not in measured),
    }


def cpu(
    finished: Sequence[int], say: Callable[[str], None], proposals: int = 15
) -> dict[str, Any]:
    """Measure the CPU milliseconds of a proposal by dimensions and finished trials: medians, the history loaded before."""
    found: dict[str, Any] = {}
    for dimensions in (3, 10):
        cube = Function("cube", dimensions, 0.0, 1.0, 0.0, sum)
        for count in finished:
            ours, theirs = (
                _cpu_ms(side, cube, count, proposals)
                for side in (Ours(cube, 0), Optunas(cube, 0))
            )
            found.setdefault(str(dimensions), {})[str(count)] = {"ours": ours, "optuna": theirs}
            say(
                f"{dimensions} dimensions, {count:>6} finished: ours {ours:.1f} ms, "
                f"Optuna {theirs:.1f} ms, ratio {ours / theirs:.2f}"
            )
    return found


def beside(
    before: Path, rounds: int, say: Callable[[str], None], finished: Sequence[int] = (100, 500)
) -> dict[str, Any]:
    """Compare the CPU of a proposal with another checkout's, in turns: medians, and the quartiles of the rounds' ratios."""
    found: dict[str, Any] = {}
    for dimensions in (3, 10):
        for count in finished:
            ms: dict[str, list[float]] = {"before": [], "ours": []}
            for _ in range(rounds):
                for side, folder in (("before", before), ("ours", Path.cwd())):
                    one = search_cpu.measured(folder, dimensions, count)
                    ms[side].append(statistics.median(one))
            ratios = [
                ours / theirs for ours, theirs in zip(ms["ours"], ms["before"], strict=True)
            ]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            medians = {side: statistics.median(some) for side, some in ms.items()}
            found.setdefault(str(dimensions), {})[str(count)] = medians | {
                "ratio": middle,
                "quartiles": [low, high],
            }
            say(
                f"{dimensions} dimensions, {count} finished, {search_cpu.RUNNING} running: ours {medians['ours']:.2f} ms, "
                f"before {medians['before']:.2f} ms, ratio {middle:.3f} ({low:.3f} to {high:.3f})"
            )
    return found


def _cpu_ms(side: Ours | Optunas, function: Function, finished: int, proposals: int) -> float:
    rng, spent = random.Random(0), list[float]()
    for _ in range(finished):
        point = any_values(function.space, rng)
        side.add(point, function.value(point))
    for _ in range(proposals + 1):
        start = time.process_time()
        number, _ = side.ask()
        spent.append(1e3 * (time.process_time() - start))
        side.abandon(number)
    return statistics.median(spent[1:])


def _line(name: str, other: str, compared: Mapping[str, Any]) -> str:
    ours, theirs = (
        " ".join(
            f"{value:.3g}"
            for value in statistics.quantiles(compared[side], n=4, method="inclusive")
        )
        for side in ("ours", other)
    )
    low, high = compared["interval"]
    return (
        f"{name}: ours {ours} | {other} {theirs} | difference of medians {compared['difference']:+.3g} "
        f"({low:+.3g} to {high:+.3g}), ours lower in {compared['chance_lower']:.0%} of pairs, p = {compared['p']:.2f}"
    )


def main() -> None:
    """Run the comparisons that were asked for; with --json the last line is one JSON object of their figures."""
    parser = argparse.ArgumentParser(description="proposals against plain Optuna's TPE")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--capped-trials", type=int, default=600)
    parser.add_argument("--finished", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--parts", nargs="+", default=PARTS[:3], choices=PARTS)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    say = Console(highlight=False, soft_wrap=True)
    figures: dict[str, Any] = {}
    if "regret" in options.parts:
        say.print(f"regret after {options.trials} trials, {options.seeds} seeds (quartiles)")
        figures |= shaped(regrets(options.seeds, options.trials, say.print))
    if "caps" in options.parts:
        say.print(f"regret after {options.capped_trials} trials, 8 workers (quartiles)")
        figures["cap"] = caps(options.seeds, options.capped_trials, say.print)
    if "cpu" in options.parts:
        say.print("CPU of one proposal (median of 15)")
        figures["cpu_ms_per_proposal"] = cpu(options.finished, say.print)
    if options.before is not None:
        say.print(f"CPU of one proposal, ours and {options.before} in turns")
        figures["beside_before"] = beside(options.before, options.rounds, say.print)
    if "replay" in options.parts:
        figures |= replay.part(min(options.seeds, 10))
    if options.json:
        say.out(json.dumps(figures))


if __name__ == "__main__":
    main()
