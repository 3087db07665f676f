"""What a study's trials answered to the validation split, in a file that the agent writes and the runner reads."""

from collections.abc import Iterable
from pathlib import Path

from trimtab.contract.metrics import Direction
from trimtab.contract.validation_outputs import TrialOutputs

MOST_TRIALS = 50
"""So many of the best trials are kept, and the first one: a worse one is seldom picked by any sample of the rows."""


def kept(trials: Iterable[TrialOutputs], direction: Direction) -> tuple[TrialOutputs, ...]:
    """Return the trials that the choice is repeated over, the first and the best, in the order of their numbers."""
    sign = 1 if direction == "maximize" else -1
    first, *others = sorted(trials, key=lambda one: one.trial_number)
    best = sorted(others, key=lambda one: -sign * one.value)[:MOST_TRIALS]
    return (first, *sorted(best, key=lambda one: one.trial_number))


def write(path: Path, trials: Iterable[TrialOutputs]) -> None:
    """Write trials, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(one.model_dump_json() + "\n" for one in trials))


def read(path: Path) -> tuple[TrialOutputs, ...]:
    """Read what `write` wrote."""
    lines = path.read_text().splitlines()
    return tuple(TrialOutputs.model_validate_json(line) for line in lines)
