"""Pictures in the training process of this checkout against that of an earlier one: nothing may have become slower.

`./run bench worker-before FOLDER [--trials 8] [--json]`

FOLDER is another checkout of this project with a `.venv` that fits it. Each work is resnet18 on the same synthetic
pictures with random weights from one file; both processes are warm, and take turns trial by trial. The ratio is the
earlier one's seconds by ours (above 1: ours is faster), by wall and by processor time, with a bootstrap interval over turns.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import worker_pictures
from tests.benchmarks.machine import family_cpu_s
from tests.benchmarks.threads import HERE, Side, Work, one_more, started
from tests.benchmarks.worker import PARTLY_STAGES, PROBE_STAGES, random_weights, say

TRAIN, VALIDATION, PIXELS = 192, 96, 64
RESAMPLED = 2000
RECIPE = {
    "optimizer": "adam",
    "schedule": "constant",
    "weight_decay": 0.0,
    "image_size": PIXELS,
}
KINDS = {"full": (0, 2), "partly_frozen": (PARTLY_STAGES, 4), "probe": (PROBE_STAGES, 20)}
"""How many stages are frozen, and how many epochs a trial has."""


@dataclass(frozen=True)
class Turn:
    """Seconds of one trial."""

    wall_s: float
    cpu_s: float


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(argv)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        more = _asked(Path(name))
        for kind in options.only:
            work = Work(kind, *KINDS[kind], more)
            turns = in_turns(work, options.before.resolve(), options.trials)
            figures[kind] = compared(kind, turns)
    if options.json:
        say(json.dumps(figures))


def _asked(folder: Path) -> dict[str, Any]:
    pictures = worker_pictures.make(folder, train=TRAIN, validation=VALIDATION, test=12)
    dataset = {"kind": "image_folder", "path": str(pictures)}
    weights = str(random_weights(folder, "resnet18"))
    return {
        "task": {"kind": "classification", "dataset": dataset},
        "model": {"backbone": "resnet18", "weights": weights},
        "recipe": RECIPE,
    }


def in_turns(work: Work, before: Path, trials: int) -> dict[str, list[Turn]]:
    """Train so many trials on both sides; the first of each, which computes what is kept, does not count."""
    sides = (Side("ours", HERE, trials), Side("before", before, trials))
    turns: dict[str, list[Turn]] = {side.name: [] for side in sides}
    say(f"{work.name}: load {os.getloadavg()[0]:.1f}")
    with ExitStack() as stack:
        running = [(side.name, stack.enter_context(started(side, work))) for side in sides]
        for turn in range(trials + 1):
            for name, process in running if turn % 2 == 0 else reversed(running):
                began = family_cpu_s(process.pid)
                wall_s = one_more(process)
                turns[name].append(Turn(wall_s, family_cpu_s(process.pid) - began))
    return {name: those[1:] for name, those in turns.items()}


def compared(kind: str, turns: dict[str, list[Turn]]) -> dict[str, Any]:
    """Print and return the ratios of the earlier checkout's seconds to ours."""
    figures: dict[str, Any] = {"turns": len(turns["ours"])}
    for name, seconds in _MEASURES.items():
        pairs = [
            (seconds(one), seconds(other))
            for one, other in zip(turns["ours"], turns["before"], strict=True)
        ]
        ratio, low, high = speed(pairs)
        figures[name] = {"ratio": round(ratio, 3), "interval": [round(low, 3), round(high, 3)]}
        own = statistics.median(one for one, _ in pairs)
        say(
            f"{kind:>14}, {name}: {ratio:.3f} ({low:.3f} to {high:.3f}); ours {own:.2f} s a trial"
        )
    return figures


_MEASURES: dict[str, Callable[[Turn], float]] = {
    "wall": lambda turn: turn.wall_s,
    "processor": lambda turn: turn.cpu_s,
}


def speed(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the other's seconds by ours, over all turns, with a 95 % bootstrap interval.

    Args:
        pairs: seconds of ours and of the other, of one turn each.
    """
    rng = random.Random(0)
    drawn = sorted(_ratio(rng.choices(pairs, k=len(pairs))) for _ in range(RESAMPLED))
    edge = RESAMPLED // 40
    return _ratio(pairs), drawn[edge], drawn[-1 - edge]


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(other for _, other in pairs) / sum(own for own, _ in pairs)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench worker-before")
    parser.add_argument("before", type=Path, metavar="FOLDER", help="an earlier checkout")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
