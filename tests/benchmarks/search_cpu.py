"""What proposals of one checkout of this project cost, measured in a process of its own.

`search.py` runs it with the interpreter and the modules of either checkout, and so it uses only what both of them have.
Prints a JSON list: the CPU milliseconds of each proposal, in a study that goes on: trials end between them, eight run.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import optuna

RUNNING = 8
WARM = 10
"""So many proposals go before those that count."""


def measure(dimensions: int, finished: int, proposals: int) -> list[float]:
    """Return the CPU milliseconds of each proposal of TPE."""
    from tests.benchmarks.search_sides import Function, Ours
    from tests.unit.sampling.ledger import any_values

    cube, rng = Function("cube", dimensions, 0.0, 1.0, 0.0, sum), random.Random(0)
    side, spent, running = Ours(cube, 0), list[float](), list[tuple[int, float]]()
    for _ in range(finished - WARM):
        point = any_values(cube.space, rng)
        side.add(point, rng.random())
    for _ in range(WARM + RUNNING + proposals):
        start = time.process_time()
        number, _ = side.ask()
        spent.append(1e3 * (time.process_time() - start))
        running.append((number, rng.random()))
        if len(running) > RUNNING:
            side.tell(*running.pop(0))
    return spent[WARM + RUNNING :]


def measured(folder: Path, dimensions: int, finished: int, proposals: int = 40) -> list[float]:
    """Return what `measure` finds in a checkout, with that checkout's interpreter and packages.

    Raises:
        subprocess.CalledProcessError: the other process failed; its own words are on standard error.
    """
    ran = subprocess.run(
        [
            str(folder / ".venv" / "bin" / "python"),
            __file__,
            *map(str, (dimensions, finished, proposals)),
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [float(one) for one in json.loads(ran.stdout)]


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sys.stdout.write(json.dumps(measure(*map(int, sys.argv[1:]))))
