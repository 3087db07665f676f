"""The control plane against three ways that people use today, in one run, taking turns on one Postgres.

`./run bench control-plane [--json] [--clients 1,8,32,128] [--finished 100,1000,10000,50000] [--seconds 3] [--rounds 3]
[--minutes 15] [--ways ours,rdb,grpc,vizier] [--before FOLDER] [--vizier-default]`

Throughput: trials lived by so many clients in a study of 1,000 finished trials (`control_plane_ways.py` says what each way
does, and whose CPU is whose). CPU a trial is measured with random search, so that the sampler's mathematics stays out; trials
per second and the wall time of each verb with TPE (multivariate, constant liar), as studies have it. CPU is
read from /proc: of the service, of Postgres with all its backends, and of the clients, apart; with rdb the clients
are the service, and their CPU is counted as its. Every round measures all ways one after another, in turns forwards and backwards.

Then claims under TPE by finished trials: warm ones, a cold process's first one, and those of another study
meanwhile; SQL round trips a call, counted on the wire; and the CPU of the sampler's mathematics by dimensions.

`--before FOLDER` adds the service of another checkout of this project, run by its own `.venv` on a database of its own, as one
more way, so that a change is measured before and after in one run: `--ways ours --finished '' --before ../other`.

`--rounds` is an upper bound: none is begun that would not end within `--minutes`. Postgres is durable (fsync on).
"""

import argparse
import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_args

import optuna

from tests.benchmarks import control_plane_claims as claims
from tests.benchmarks import round_trips, search, vizier_venv
from tests.benchmarks.control_plane_table import figures, lines, sampler_of
from tests.benchmarks.control_plane_ways import (
    measure_optuna,
    measure_ours,
    measure_vizier,
    measure_vizier_default,
)
from tests.benchmarks.machine import Bench, another, bench
from tests.benchmarks.samples import WAYS, Sample, Sampler, Way, spread

LARGE = 50_000
LARGEST_SAMPLED = 10_000
"""Filling Optuna's memory with more takes longer than it tells: ours shows its sampler 500 trials at most."""
DEFAULT_PATIENCE_S = 120.0


class Run:
    """One run's orders, and what it has measured so far."""

    def __init__(
        self,
        options: argparse.Namespace,
        parts: Bench,
        ways: Sequence[Way],
        before: Bench | None,
    ) -> None:
        self._bench, self._ways = parts, list(ways)
        self._clients: list[int] = options.clients
        self._seconds: float = options.seconds
        self._before = before
        self._python: Path | None = None
        self.rounds: dict[tuple[Way, Sampler, int], list[Sample]] = {}
        if "vizier" in ways:
            self._install_vizier()

    def _install_vizier(self) -> None:
        try:
            self._python = vizier_venv.python_of(self._bench.folder / "vizier")
        except vizier_venv.VizierMissing as error:
            say(f"vizier is left out: {error}")
            self._ways.remove("vizier")

    def one_round(self, *, backwards: bool) -> None:
        """Measure each way once at each number of clients."""
        for clients in self._clients:
            for sampler in get_args(Sampler):
                for way in reversed(self._ways) if backwards else self._ways:
                    if sampler_of(way, sampler) == sampler:
                        started = time.monotonic()
                        sample = self._measure(way, sampler, clients)
                        say(
                            f"    {way}, {clients} clients, {sampler}: {sample.trials} trials, "
                            f"{sample.rate:.1f}/s, measured in {time.monotonic() - started:.0f} s"
                        )
                        self.rounds.setdefault((way, sampler, clients), []).append(sample)

    def vizier_default(self) -> dict[str, Any]:
        """One client of Vizier with its default algorithm, a Gaussian process."""
        if self._python is None:
            return {}
        one = measure_vizier_default(self._bench, self._python, DEFAULT_PATIENCE_S)
        say(
            f" vizier    1 client, its default algorithm: {one.trials} trials ended in {DEFAULT_PATIENCE_S:.0f} s"
        )
        return {"vizier_default": {"trials": one.trials, "within_s": DEFAULT_PATIENCE_S}}

    def _measure(self, way: Way, sampler: Sampler, clients: int) -> Sample:
        match way:
            case "ours":
                return measure_ours(self._bench, sampler, clients, self._seconds)
            case "before":
                assert self._before is not None
                return measure_ours(self._before, sampler, clients, self._seconds)
            case "vizier":
                assert self._python is not None
                return measure_vizier(self._bench, self._python, clients, self._seconds)
            case _:
                return measure_optuna(self._bench, way, sampler, clients, self._seconds)


def say(line: str) -> None:
    """Print as it comes."""
    print(line, flush=True)  # noqa: T201 - the table is the product


def growth(parts: Bench, sizes: Sequence[int], ways: Sequence[Way]) -> dict[str, Any]:
    """Claims by finished trials, ours and Optuna's RDBStorage in turn."""
    sides = {"ours": claims.of_ours, "rdb": claims.of_rdb}
    found: dict[str, Any] = {"claim_ms_by_finished": {}, "first_claim_s_by_finished": {}}
    for finished in sizes:
        for side in (side for side in ways if side in sides):
            one = sides[side](parts, finished)
            size = str(finished)
            found["claim_ms_by_finished"].setdefault(side, {})[size] = round(one.median, 2)
            first = found["first_claim_s_by_finished"].setdefault(side, {})
            first[size] = round(one.first / 1e3, 3)
            say(
                f"{side:>7} {finished:>6} finished, TPE: claim {spread(one.following)} ms, "
                f"first of a cold process {one.first / 1e3:.2f} s"
            )
            if (side, finished) == ("ours", LARGE):
                found["load_50k_s"] = round(one.first / 1e3, 3)
    return found | _grown(found["claim_ms_by_finished"])


def _grown(by_side: dict[str, dict[str, float]]) -> dict[str, Any]:
    """A claim at the largest size to one at 1,000 finished trials."""
    found: dict[str, float] = {}
    for side, by_finished in by_side.items():
        largest = max(by_finished, key=int)
        if "1000" in by_finished:
            found[side] = round(by_finished[largest] / by_finished["1000"], 2)
            say(f"  ratio {side} claims: {largest} finished / 1000 finished {found[side]:.2f}")
    return {"claim_growth": found}


def beside(parts: Bench, finished: int) -> dict[str, Any]:
    """Another study's claims while a large one is loaded."""
    one = claims.beside(parts, finished)
    (p50, p99), (p50_during, p99_during) = one.before, one.during
    say(
        f"   ours {finished:>6} finished loaded in {one.load_s:.2f} s: another study's claims p50/p99 "
        f"{p50:.1f}/{p99:.1f} ms before, {p50_during:.1f}/{p99_during:.1f} ms meanwhile ({one.claims} claims)"
    )
    return {"other_study_claim_ms": asdict(one)}


def trips(parts: Bench, ways: Sequence[Way]) -> dict[str, Any]:
    """SQL round trips a call."""
    found: dict[str, Any] = {}
    for way in ways:
        if way == "vizier":
            continue  # it speaks no SQL over a wire
        if way == "before":
            continue  # this checkout's client may say what an earlier service does not know
        found[way] = round_trips.counted(parts, way)
        verbs = ", ".join(f"{verb} {count:g}" for verb, count in found[way].items())
        say(f"{way:>7} SQL round trips: {verbs}")
    return {"round_trips": found}


def measured(options: argparse.Namespace, parts: Bench, before: Bench | None) -> dict[str, Any]:
    """Measure everything: a first round, what needs no rounds, then as many rounds as there is time for."""
    started, start_load = time.monotonic(), os.getloadavg()
    run = Run(options, parts, options.ways, before)
    run.one_round(backwards=False)
    longest, count = time.monotonic() - started, 1
    _say_table(run, options.clients)
    found = growth(parts, options.finished, options.ways)
    if "ours" in options.ways and options.finished:
        found |= beside(parts, max(options.finished))
    found |= trips(parts, options.ways)
    sizes = [finished for finished in options.finished if finished <= LARGEST_SAMPLED]
    found["sampler_ms_by_dimensions"] = search.cpu(sizes, say, proposals=5)
    if options.vizier_default:
        found |= run.vizier_default()
    while (
        count < options.rounds and time.monotonic() - started + longest < 60 * options.minutes
    ):
        run.one_round(backwards=count % 2 == 1)
        count += 1
    if count > 1:
        say(f"all {count} rounds, median (min..max):")
        _say_table(run, options.clients)
    load = {"start": start_load, "end": os.getloadavg()}
    say(f"load average {start_load[0]:.2f} at the start, {load['end'][0]:.2f} at the end")
    return figures(run.rounds) | found | {"rounds": count, "load_average": load}


def _say_table(run: Run, clients: Sequence[int]) -> None:
    for count in clients:
        for line in lines(run.rounds, count):
            say(line)


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=_numbers, default=[1, 8, 32, 128])
    parser.add_argument("--finished", type=_numbers, default=[100, 1000, 10_000, LARGE])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--ways", type=_ways, default=list(WAYS))
    parser.add_argument("--before", type=_checkout)
    parser.add_argument("--vizier-default", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.before is not None:
        options.ways = [*options.ways, "before"]
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _checkout(text: str) -> Path:
    folder = Path(text).resolve()
    if not (python := folder / ".venv/bin/python").exists():
        raise argparse.ArgumentTypeError(f"it has no {python}: run `./run lint` there first")
    return folder


def _ways(text: str) -> list[Way]:
    ways = text.split(",")
    if unknown := set(ways) - set(WAYS):
        raise argparse.ArgumentTypeError(f"{sorted(unknown)} are none of {', '.join(WAYS)}")
    return cast(list[Way], ways)


def main() -> None:
    """Start Postgres, measure, print."""
    options = parsed()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with contextlib.ExitStack() as stack:
        parts = stack.enter_context(bench())
        checkout: Path | None = options.before
        before = None if checkout is None else stack.enter_context(another(parts, checkout))
        found = measured(options, parts, before)
    if options.json:
        say(json.dumps(found))


if __name__ == "__main__":
    main()
