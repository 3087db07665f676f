"""How many threads compute: a study of glyphnet beside other work, and alone, on two cores.

`./run bench threads [--before FOLDER] [--trials 60] [--before-trials 10] [--rounds 3] [--only busy|quiet] [--json]`

Each side is a training process that is ordered trial after trial over its pipes; the service is not in the figures. All
of them, and the other work, are held to the same two cores (sched_setaffinity).

- busy: trials with three frozen stages beside two processes that loop. `--before FOLDER` adds another checkout of this
  project, run by its own `.venv`. It trains the first `--before-trials` trials only: the time of all is that of its
  first trial, which computes the features, and the mean of the others for each of the rest. The table says so.
- quiet: trials with three frozen stages, and trials that train all stages, each against the same with one thread and
  with two. The ratio is the time with the better of these two, divided by ours.

Busy, the sides take turns round by round, forwards and backwards; a ratio is of two measurements of one round, and the
spread is that of the rounds. Quiet, where they are nearly alike, all of them are started at once and take turns trial by
trial, so that whatever else the machine does meets all of them; the interval of the ratio is a bootstrap over trials.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
CORES = 2
RESAMPLED = 2000
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
    """Trials that differ in their learning rates, of glyphnet unless `more` says another task, model or recipe."""

    name: str
    frozen_stages: int
    epochs: int
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])


PROBES = Work("three frozen stages", 3, 10)
WHOLE = Work("all stages trained", 0, 2)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)  # What is started from here on inherits it.
    found: dict[str, Any] = {"cores": len(cores)}
    if options.only != "quiet":
        found["busy"] = _busy(options)
    if options.only != "busy":
        found["quiet"] = {work.name: _quiet(options, work) for work in (PROBES, WHOLE)}
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
    sides = [Side("ours", HERE, options.trials)]
    sides += [
        Side(f"{count} fixed", HERE, options.trials, ("--threads", str(count)))
        for count in range(1, CORES + 1)
    ]
    load = os.getloadavg()[0]
    taken = _in_turns(work, sides, options.trials * options.rounds)
    for name, seconds in taken.items():
        _say(
            f" quiet  {name:>8}, {work.name}: {_spread(seconds)} s a trial (load {load:.1f} before)"
        )
    ratio, low, high = of_best_fixed(taken)
    _say(
        f" quiet, {work.name}: {ratio:.3f} ({low:.3f} to {high:.3f}) of the speed with the better fixed number"
    )
    return {"seconds": taken, "of_best_fixed": {"ratio": ratio, "interval": [low, high]}}


def of_best_fixed(taken: Mapping[str, Sequence[float]]) -> tuple[float, float, float]:
    """Return the speed of `ours` as a share of that of the faster fixed number, with its 95 % bootstrap interval.

    Args:
        taken: for each side the seconds of its trials; those of one place are of one turn.
    """
    turns = list(zip(*taken.values(), strict=True))
    rng = random.Random(0)
    drawn = sorted(
        _share_of_best(list(taken), rng.choices(turns, k=len(turns))) for _ in range(RESAMPLED)
    )
    edge = RESAMPLED // 40
    return _share_of_best(list(taken), turns), drawn[edge], drawn[-1 - edge]


def _share_of_best(names: Sequence[str], turns: Sequence[Sequence[float]]) -> float:
    totals = dict(zip(names, map(sum, zip(*turns, strict=True)), strict=True))
    return min(total for name, total in totals.items() if name != "ours") / totals["ours"]


def _in_turns(work: Work, sides: Sequence[Side], trials: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {side.name: [] for side in sides}
    with ExitStack() as stack:
        running = [(side, stack.enter_context(started(side, work))) for side in sides]
        for turn in range(trials):
            for side, process in running if turn % 2 == 0 else reversed(running):
                taken[side.name].append(one_more(process))
    return taken


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
    with started(side, work) as process:
        return [one_more(process) for _ in range(side.trials)]


def one_more(process: subprocess.Popen[str]) -> float:
    """Have one more trial trained; returns its seconds."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


@contextmanager
def started(side: Side, work: Work) -> Generator[subprocess.Popen[str]]:
    """Start the training process of a side, with an empty cache of its own."""
    with tempfile.TemporaryDirectory() as cache:
        asked = {
            "frozen_stages": work.frozen_stages,
            "epochs": work.epochs,
            "cache_dir": cache,
            "arguments": side.arguments,
            **work.more,
        }
        process = subprocess.Popen(
            [
                *(side.checkout / ".venv/bin/python", "-P"),
                *(HERE / "tests/benchmarks/threads_side.py", json.dumps(asked)),
            ],
            cwd=side.checkout,
            env={**os.environ, **WAITING, "PYTHONPATH": str(side.checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:  # which closes its input, and waits until it has left
            yield process


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
    parser.add_argument("--only", choices=["busy", "quiet"])
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the table is the product


if __name__ == "__main__":
    main()
