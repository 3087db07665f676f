"""Texts against the script a person would write (text_script.py), on the same data in the same run, one thread each.

`./run bench text [--json] [--part NAME ...] [--table CSV --text COLUMN --label COLUMN] [--trials N] [--megabytes N]`

The encoder is all-MiniLM-L6-v2 (22.6 million parameters, 6 layers). Both sides are warm processes with all libraries
imported; trials are paired (the same configuration, one side after the other, the order alternating), and a part's
figure is the median of the pairs' ratios, with the least and the greatest. Without `--table` sentences are made up.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks import text_jobs
from tests.benchmarks.text_jobs import LAYERS, TextJob
from tests.benchmarks.worker_jobs import Done
from tests.benchmarks.worker_sides import Ours, Script, Side, lease_of_fields
from tests.support.texts import minilm
from trimtab.contract.leases import Lease

PARTS = ("full", "probe", "partly", "memory")
ALL_STAGES = LAYERS + 1
TRAIN, VALIDATION = 640, 300
PROBE_EPOCHS = 20
PROBE_TRIALS = 40
TOGETHER = 8
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Quantiles (97.5 %) of Student's t with 1, 2, 3 ... degrees of freedom; the last one stands for all above."""


def main() -> None:
    """Run the parts and print their figures."""
    told = _arguments()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = TextJob(str(_table(told, folder)), str(minilm()))
        if {"full", "probe", "partly"} & set(told.part):
            script = Script("tests.benchmarks.text_script")
            ours = Ours(folder / "cache", "cpu", _lease)
            try:
                figures |= _trainings(told, job, script, ours)
            finally:
                ours.close()
                script.close()
        if "memory" in told.part:
            figures |= _memory(folder, told.megabytes)
    for key, value in figures.items():
        _say(f"{key:24} {value}")
    if told.json:
        _say(json.dumps(figures))


def _trainings(
    told: argparse.Namespace, job: TextJob, script: Side, ours: Ours
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    # Not counted: what the first trial of a process does, and the data of both.
    for side in (ours, script):
        side.train(replace(job, epochs=1, frozen_stages=ALL_STAGES))
    if "full" in told.part:
        jobs = [replace(job, seed=seed) for seed in range(told.trials)]
        pairs = _pairs(jobs, ours, script)
        found["full_study"] = _ratios(pairs)
        differences = [mine.accuracy - theirs.accuracy for mine, theirs in pairs]
        found["accuracy_ours"] = statistics.fmean(mine.accuracy for mine, _ in pairs)
        found["accuracy_difference"] = _with_interval(differences)
        found["between_trials_s"] = round(
            statistics.median(mine.begin_s + mine.end_s for mine, _ in pairs), 3
        )
    if "partly" in told.part:
        jobs = [
            replace(job, frozen_stages=ALL_STAGES - 2, seed=seed)
            for seed in range(max(2, told.trials // 2))
        ]
        found["partly_frozen"] = _ratios(_pairs(jobs, ours, script))
    if "probe" in told.part:
        found |= _probes(job, ours, script)
    return found


def _probes(job: TextJob, ours: Ours, script: Side) -> dict[str, Any]:
    """Run a study of frozen encoders on our side; the script runs two epochs of one trial, and each costs it the same."""
    frozen = replace(job, frozen_stages=ALL_STAGES, learning_rate=1e-2)
    one = script.train(replace(frozen, epochs=2)).wall_s / 2
    jobs = [
        replace(frozen, epochs=PROBE_EPOCHS, seed=seed, learning_rate=10 ** (-4 + seed / 20))
        for seed in range(PROBE_TRIALS)
    ]
    wall_s, first_s = ours.study(jobs, TOGETHER)
    whole = one * PROBE_EPOCHS * PROBE_TRIALS
    return {
        "probe_study": round(whole / wall_s, 1),
        "probe_study_s": round(wall_s, 2),
        "probe_first_trial_s": round(first_s, 2),
    }


def _pairs(jobs: Sequence[TextJob], ours: Side, script: Side) -> list[tuple[Done, Done]]:
    found: list[tuple[Done, Done]] = []
    for place, job in enumerate(jobs):
        if place % 2:
            theirs = script.train(job)
            found.append((ours.train(job), theirs))
        else:
            mine = ours.train(job)
            found.append((mine, script.train(job)))
    return found


def _ratios(pairs: Sequence[tuple[Done, Done]]) -> dict[str, float]:
    """Return how many times as much processor time the script takes: others may use this machine meanwhile."""
    ratios = [theirs.cpu_s / mine.cpu_s for mine, theirs in pairs]
    wall = statistics.median(theirs.wall_s / mine.wall_s for mine, theirs in pairs)
    return {
        "median": round(statistics.median(ratios), 2),
        "least": round(min(ratios), 2),
        "greatest": round(max(ratios), 2),
        "wall": round(wall, 2),
    }


def _with_interval(differences: Sequence[float]) -> dict[str, float]:
    """Return the mean of differences and its 95 % interval by Student's t; of one pair there is none."""
    mean = statistics.fmean(differences)
    found = {"mean": round(mean, 4)}
    if (pairs := len(differences)) > 1:
        quantile = _T[min(pairs - 1, len(_T)) - 1]
        half = quantile * statistics.stdev(differences) / pairs**0.5
        found |= {"low": round(mean - half, 4), "high": round(mean + half, 4)}
    return found


def _memory(folder: Path, megabytes: Sequence[float]) -> dict[str, Any]:
    """Return the most memory that tables of these sizes take, and by how much that of the last is above the first."""
    found: list[dict[str, float]] = []
    for size in megabytes:
        table = text_jobs.large(folder / f"{size}.csv", size)
        argv = [sys.executable, "-m", "tests.benchmarks.text_memory", str(table)]
        argv += [str(minilm()), str(folder / "large")]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        found.append({"megabytes": size, **json.loads(said)})
        table.unlink()
    growth = found[-1]["anonymous"] - found[0]["anonymous"]
    return {"memory": found, "memory_growth_mb": round(growth, 1)}


def _table(told: argparse.Namespace, folder: Path) -> Path:
    count = TRAIN + VALIDATION + 10
    rows = (
        text_jobs.read(told.table, told.text, told.label, count)
        if told.table
        else text_jobs.made_up(count)
    )
    return text_jobs.write(folder / "texts.csv", rows, VALIDATION)


def _lease(job: TextJob) -> Lease:
    return lease_of_fields(
        job.seed,
        {
            "kind": "classification",
            "dataset": {
                "kind": "csv",
                "path": job.table,
                "text": "text",
                "targets": ["label"],
                "split": "split",
            },
        },
        {"backbone": "bert", "weights": job.folder},
        {
            "epochs": job.epochs,
            "batch_size": job.batch_size,
            "learning_rate": job.learning_rate,
            "weight_decay": 0.0,
            "optimizer": "adam",
            "schedule": "constant",
            "frozen_stages": job.frozen_stages,
            "max_tokens": job.max_tokens,
        },
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench text")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--table", type=Path, help="CSV of a person's own")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[10, 1000])
    told = parser.parse_args()
    told.part = told.part or list(PARTS)
    return told


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
