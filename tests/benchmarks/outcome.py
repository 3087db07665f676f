"""Whether the model that a person takes away beats their own plain first run, and a script that lets Optuna tune.

    ./run bench outcome [--studies 3] [--trials 10] [--tasks TASK ...] [--sides SIDE ...] [--keep FILE] [--quick] [--json]

Test accuracy on pictures that no side trains on or chooses by. `plain` is a plain script's one run (mean of three seeds);
`optuna` a person's script with TPE and the median pruner in a usual wide space, which goes on until it has trained for as
many epochs as ten whole runs take; `single` and `ensemble` are studies of this product whose document leaves the space to
it, with a budget of as many epochs, refits included; `ensemble_alone` (the single model of the search of
`ensemble`) and `without_untrained` (`single` without the choice of what no trial has trained) are read from the reports.
`without_RULE` is `single` without one of its rules; `choice` reads one
set of trainings by the product's rule and without its parts. `live_auto` and `live_tpe` (only if they are asked for) are
the sampler `auto` against TPE with the median pruner, each with as many epochs as twice `--trials` whole trainings take or
with `--live-seconds` of devices, no refit; they are compared on the test pictures and by the validation value of the best
trial. The sides of a study see the same pictures; differences are paired by study, averaged within each task and then over
tasks, with a bootstrap interval over studies.

With `--keep` results gather in a file: an interrupted run goes on, and sides may be run apart. Constants of the product
were chosen after seeing some of these tasks, so the others stand apart.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.benchmarks import outcome_choice, outcome_ours, outcome_script
from tests.benchmarks.outcome_figures import figures, line, lines
from tests.benchmarks.outcome_results import Done, Kept
from tests.benchmarks.outcome_script import Data, Result
from tests.benchmarks.outcome_tasks import JOBS, Job, lay
from tests.support import lab

SEEDS = 3
SCRIPT = ("plain", "optuna")
OURS = tuple(outcome_ours.documents())
USUAL = (*SCRIPT, *(side for side in OURS if side not in outcome_ours.LIVE), "choice")
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
    _say(f"load {_load()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        _scripts(jobs, options, kept, Path(name))
        _products(jobs, options, kept, Path(name))
        _choices(jobs, options, kept, Path(name))
    results = kept.of(options.tasks, options.studies)
    for one in lines(results):
        _say(one)
    _say(f"load {_load()}")
    if options.json:
        _say(json.dumps(figures(results)))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.outcome")
    names, sides = [job.name for job in JOBS], (*SCRIPT, *OURS, CHOICE[0])
    parser.add_argument("--studies", type=int, default=3)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--tasks", nargs="+", choices=names, default=names)
    parser.add_argument("--sides", nargs="*", choices=sides, default=USUAL)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="results gather here")
    parser.add_argument("--quick", action="store_true", help="one study of two small tasks")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--live-seconds", type=float, metavar="S", help="of devices, a live side"
    )
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
                _say(line(job.name, study, side, result.accuracies, result.epochs))


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
            laid = lay(job, folder, study)
            live_s = options.live_seconds
            for done in ours.run(job, laid, study, options.trials, sides, live_s=live_s):
                kept.add(done)
                _say(line(job.name, study, done.side, done.accuracies, done.epochs))


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
                _say(line(job.name, study, done.side, done.accuracies, done.epochs))


def _missing(
    sides: Sequence[str], job: Job, study: int, options: argparse.Namespace, kept: Kept
) -> list[str]:
    wanted = [side for side in sides if side in options.sides]
    return [side for side in wanted if not kept.has(job.name, study, side)]


def _load() -> str:
    return " ".join(f"{one:.1f}" for one in os.getloadavg())


def _say(told: str) -> None:
    sys.stdout.write(f"{told}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
