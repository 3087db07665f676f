"""Whether the model that a person takes away beats their own plain first run, and a script that lets Optuna tune.

    ./run bench outcome [--studies 3] [--trials 10] [--tasks TASK ...] [--sides SIDE ...] [--keep FILE] [--quick] [--json]

Test accuracy on pictures that no side trains on or chooses by. `plain` is a plain script's one run (mean of three seeds);
`optuna` a person's script with TPE and the median pruner in a usual wide space; `single` and `ensemble` are studies of
this product whose document leaves the space to it: the same number of trainings as Optuna's trials, refits included.
`without_RULE` is `single` without one of its rules; `choice` reads one set
of trainings by the product's rule and without its parts. The sides of a study see the same pictures; differences are paired by
study, averaged within each task and then over tasks, with a bootstrap interval over studies.

With `--keep` results gather in a file: an interrupted run goes on, and sides may be run apart. Constants of the product
were chosen after seeing some of these tasks, so the others stand apart.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import outcome_choice, outcome_ours, outcome_script
from tests.benchmarks.outcome_results import Done, Gain, Kept, coverage, gain
from tests.benchmarks.outcome_script import Data, Result
from tests.benchmarks.outcome_tasks import JOBS, Job, lay
from tests.support import lab

SEEDS = 3
SCRIPT = ("plain", "optuna")
OURS = tuple(outcome_ours.documents())
QUICK = ("digits_8", "mnist_10")
CHOICE = tuple(outcome_choice.RULES)
"""Read of one set of trainings, so all of them are run or none."""


def main(arguments: Sequence[str]) -> None:
    """Measure what is not kept yet, and print; with --json the last line is one JSON object of the figures."""
    options = _options(arguments)
    if not (lab.FOLDER / "user_backbones.py").exists():
        _say(f"skipped: its data and weights are not in {lab.FOLDER} (TRIMTAB_LAB_DATA)")
        return
    torch.set_num_threads(options.threads)
    jobs = [job for job in JOBS if job.name in options.tasks]
    kept = Kept(options.keep)
    _say(f"load {' '.join(f'{one:.1f}' for one in os.getloadavg())}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        _scripts(jobs, options, kept, Path(name))
        _products(jobs, options, kept, Path(name))
        _choices(jobs, options, kept, Path(name))
    figures = show(kept.of(options.tasks, options.studies))
    if options.json:
        _say(json.dumps(figures))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.outcome")
    names, sides = [job.name for job in JOBS], (*SCRIPT, *OURS, CHOICE[0])
    parser.add_argument("--studies", type=int, default=3)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--tasks", nargs="+", choices=names, default=names)
    parser.add_argument("--sides", nargs="*", choices=sides, default=sides)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="results gather here")
    parser.add_argument("--quick", action="store_true", help="one study of two small tasks")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.quick:
        options.studies, options.tasks = 1, list(QUICK)
    return options


def _scripts(
    jobs: Sequence[Job], options: argparse.Namespace, kept: Kept, folder: Path
) -> None:
    for study in range(options.studies):
        for job in jobs:
            if not (wanted := _missing(SCRIPT, job, study, options, kept)):
                continue
            data = outcome_script.read(job, lay(job, folder, study))
            for side in wanted:
                result = _script(side, job, data, options.trials, study)
                kept.add(_done(job, study, side, result))
                _say(_line(job.name, study, side, result.accuracies, result.epochs))


def _script(side: str, job: Job, data: Data, trials: int, study: int) -> Result:
    if side == "plain":
        return outcome_script.plain(job, data, SEEDS)
    return outcome_script.tuned(job, data, trials, study)


def _done(job: Job, study: int, side: str, result: Result) -> Done:
    return Done(
        job.name,
        study,
        side,
        result.accuracies,
        result.epochs,
        cpu_s=round(result.cpu_s, 1),
        validation=result.validation,
    )


def _products(
    jobs: Sequence[Job], options: argparse.Namespace, kept: Kept, folder: Path
) -> None:
    wanted = [
        (job, study, sides)
        for study in range(options.studies)
        for job in jobs
        if (sides := _missing(OURS, job, study, options, kept))
    ]
    if not wanted:
        return
    with outcome_ours.product(folder, options.workers, options.threads) as ours:
        for job, study, sides in wanted:
            for done in ours.run(job, lay(job, folder, study), study, options.trials, sides):
                kept.add(done)
                _say(_line(job.name, study, done.side, done.accuracies, done.epochs))


def _choices(
    jobs: Sequence[Job], options: argparse.Namespace, kept: Kept, folder: Path
) -> None:
    for study in range(options.studies):
        for job in jobs:
            if not _missing(CHOICE[:1], job, study, options, kept):
                continue
            laid = lay(job, folder, study)
            said = outcome_ours.SINGLE
            document = outcome_ours.document(job, laid, CHOICE[0], study, options.trials, said)
            for done in outcome_choice.chosen(job, document, folder):
                kept.add(done)
                _say(_line(job.name, study, done.side, done.accuracies, done.epochs))


def _missing(
    sides: Sequence[str], job: Job, study: int, options: argparse.Namespace, kept: Kept
) -> list[str]:
    wanted = [side for side in sides if side in options.sides]
    return [side for side in wanted if not kept.has(job.name, study, side)]


def show(results: Sequence[Done]) -> dict[str, Any]:
    """Print the accuracies and the differences, losses first, and return the figures."""
    chosen_on = [job.name for job in JOBS if job.chosen_on]
    _table(results)
    figures: dict[str, Any] = {}
    for name, ours, theirs in (
        ("to_plain", "single", "plain"),
        ("to_optuna", "single", "optuna"),
        ("ensemble", "ensemble", "single"),
        ("ensemble_to_plain", "ensemble", "plain"),
        ("optuna_to_plain", "optuna", "plain"),
    ):
        figures[name] = _compared(results, ours, theirs, chosen_on)
    figures["without"] = {}
    for whole, sides in (("single", OURS), ("choice", CHOICE)):
        for side in sides:
            _, without, rule = side.partition("without_")
            if without:
                figures["without"][rule] = _compared(results, side, whole, chosen_on)
    figures["coverage"] = coverage(results)
    for name, said in figures["coverage"].items():
        _say(f"{name}: " + ", ".join(f"{word} {value:.3g}" for word, value in said.items()))
    return {**figures, "tasks_used_for_choosing": chosen_on}


def _table(results: Sequence[Done]) -> None:
    for job in JOBS:
        for side in (*SCRIPT, *OURS, *CHOICE):
            those = [one for one in results if one.task == job.name and one.side == side]
            if those:
                values = [one.accuracy for one in those]
                epochs = round(statistics.fmean(one.epochs for one in those))
                _say(_line(job.name, "all", side, values, epochs))


def _compared(
    results: Sequence[Done], ours: str, theirs: str, chosen_on: Sequence[str]
) -> dict[str, Any]:
    """Return the gain of each task, and of the tasks that nothing was chosen on, those that were, and all."""
    parts = {
        "unseen": [one for one in results if one.task not in chosen_on],
        "used_for_choosing": [one for one in results if one.task in chosen_on],
        "all": results,
    }
    gains = {
        name: found for name, those in parts.items() if (found := gain(those, ours, theirs))
    }
    for name, found in gains.items():
        _say(f"{ours} less {theirs}, {name} ({found.studies} studies): {_points(found)}")
    if "all" not in gains:
        return {}
    tasks = dict(sorted(gains["all"].tasks.items(), key=lambda pair: pair[1]))
    _say("    " + ", ".join(f"{task} {points:+.1f}" for task, points in tasks.items()))
    means = {
        name: {"points": found.points, "interval": found.interval, "studies": found.studies}
        for name, found in gains.items()
    }
    return {**tasks, "mean": means}


def _points(found: Gain) -> str:
    if found.interval is None:
        return f"{found.points:+.1f} points"
    return f"{found.points:+.1f} points ({found.interval[0]:+.1f} to {found.interval[1]:+.1f})"


def _line(
    task: str, study: int | str, side: str, accuracies: Sequence[float], epochs: int
) -> str:
    told = " ".join(f"{100 * one:.1f}" for one in accuracies)
    return f"{task:>14} {study:>3} {side:<31} {told} % ({epochs} epochs)"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
