"""How many threads compute: a study of glyphnet beside other work, and alone, on two cores.

`./run bench threads [--before FOLDER] [--trials 60] [--before-trials 10] [--rounds 3] [--json]`

Each side is a training process that is ordered trial after trial over its pipes; the service is not in the figures. All
of them, and the other work, are held to the same two cores (sched_setaffinity).

- busy: trials with three frozen stages beside two processes that loop. `--before FOLDER` adds another checkout of this
  project, run by its own `.venv`. It trains the first `--before-trials` trials only: the time of all is that of its
  first trial, which computes the features, and the mean of the others for each of the rest. The table says so.
- quiet: trials with three frozen stages, and trials that train all stages, each against the same with one thread and
  with two. The ratio is the time with the better of these two, divided by ours.

The sides take turns, forwards and backwards; a ratio is of two measurements of one round. The spread is that of the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
CORES = 2
LOOP = "while True: pass"
WAITING = {"GOMP_SPINCOUNT": "20000"}
"""What a worker of either checkout gives its training process, unless several share the cores."""


@dataclass(frozen=True)
class Side:
    """A checkout, the arguments of its training process, and how many of the trials it trains."""

    name: str
    checkout: Path
    trials: int
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """Trials that differ in their learning rates."""

    name: str
    frozen_stages: int
    epochs: int


PROBES = Work("three frozen stages", 3, 10)
WHOLE = Work("all stages trained", 0, 2)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)  # What is started from here on inherits it.
    found = {
        "cores": len(cores),
        "busy": _busy(options),
        "quiet": {work.name: _quiet(options, work) for work in (PROBES, WHOLE)},
    }
    if options.json:
        _say(json.dumps(found))


def whole_study(seconds: Sequence[float], trials: int) -> float:
    """Return the seconds of a study of which the first trials were measured: the first trial, and the mean of the rest."""
    first, *rest = seconds
    return first + (trials - 1) * statistics.mean(rest) if rest else first * trials


def _busy(options: argparse.Namespace) -> dict[str, Any]:
    sides = [Side("ours", HERE, options.trials)]
    if options.before:
        few = min(options.before_trials, options.trials)
        sides.append(Side("before", options.before.resolve(), few))
    with _other_work():
        taken = _rounds(options, PROBES, sides, "busy")
    found: dict[str, Any] = {"seconds": taken}
    for side in sides:
        scaled = "" if side.trials == options.trials else f", scaled from {side.trials}"
        _say(
            f" busy   {side.name:>8}: {options.trials} trials{scaled}: {_spread(taken[side.name])} s"
        )
    if options.before:
        ratios = [b / o for o, b in zip(taken["ours"], taken["before"], strict=True)]
        found["times_faster"] = ratios
        _say(f" busy: ours is {_spread(ratios)} times as fast as before")
    return found


def _quiet(options: argparse.Namespace, work: Work) -> dict[str, Any]:
    trials = options.trials
    sides = [Side("ours", HERE, trials)]
    sides += [
        Side(f"{count} fixed", HERE, trials, ("--threads", str(count)))
        for count in range(1, CORES + 1)
    ]
    taken = _rounds(options, work, sides, "quiet")
    fixed = [name for name in taken if name != "ours"]
    ratios = [
        min(taken[name][turn] for name in fixed) / ours
        for turn, ours in enumerate(taken["ours"])
    ]
    for name, seconds in taken.items():
        _say(f" quiet  {name:>8}, {work.name}: {trials} trials: {_spread(seconds)} s")
    _say(f" quiet, {work.name}: {_spread(ratios)} of the speed with the better fixed number")
    return {"seconds": taken, "of_best_fixed": ratios}


def _rounds(
    options: argparse.Namespace, work: Work, sides: Sequence[Side], where: str
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(options.rounds):
        for side in sides if turn % 2 == 0 else reversed(sides):
            load = os.getloadavg()[0]
            seconds = whole_study(_train(side, work), options.trials)
            taken[side.name].append(seconds)
            _say(
                f"   {where}, {work.name}, {side.name}: {seconds:.1f} s (load {load:.1f} before)"
            )
    return taken


def _train(side: Side, work: Work) -> list[float]:
    with tempfile.TemporaryDirectory() as cache:
        asked = {
            "trials": side.trials,
            "frozen_stages": work.frozen_stages,
            "epochs": work.epochs,
            "cache_dir": cache,
            "arguments": side.arguments,
        }
        environment = {**os.environ, **WAITING, "PYTHONPATH": str(side.checkout)}
        done = subprocess.run(
            [
                *(side.checkout / ".venv/bin/python", "-P"),
                *(HERE / "tests/benchmarks/threads_side.py", json.dumps(asked)),
            ],
            cwd=side.checkout,
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
    return json.loads(done.stdout)


@contextmanager
def _other_work() -> Generator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(CORES)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench threads")
    parser.add_argument("--before", type=Path, metavar="FOLDER")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--before-trials", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the table is the product


if __name__ == "__main__":
    main()
