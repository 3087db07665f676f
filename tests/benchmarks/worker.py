"""The worker against the script a person would write (worker_script.py), on the same data in the same run.

`./run bench worker [--json] [--part NAME ...] [--trials N] [--full] [--device cuda] [--cache DIR]`

Both sides are warm processes with torch imported and the same number of threads; trials are paired (the same
configuration, one side after the other, the order alternating), and a part's figure is the median of the pairs'
ratios, with the least and the greatest. The script's DataLoader gets 0, 2 or (from 8 cores on) 8 processes, whichever is
fastest here.
Neither side augments. Pictures are synthetic, weights random and the same for both: no download. By default trials,
epochs and pictures are fewer than a study's; `--full` takes them all.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torchvision import models

from tests.benchmarks import worker_loops, worker_pictures
from tests.benchmarks.worker_jobs import Done, Job
from tests.benchmarks.worker_sides import Ours, Script, Side, both

PROBE_STAGES = 5
"""All of a ResNet: stem and four layers."""
TOGETHER = 8
"""Heads that a worker trains at a time, unless it is told otherwise."""
PARTLY_STAGES = 4
"""Stem and three of the four layers."""


@dataclass(frozen=True)
class Sizes:
    """How much of a study is run."""

    train: int = 192
    validation: int = 96
    full_trials: int = 4
    full_epochs: int = 3
    probe_trials: int = 40
    probe_epochs: int = 20
    probe_script: tuple[int, int] = (2, 2)
    """Trials and epochs that the script is made to run of a probe study; each costs it the same."""
    partly_trials: int = 4
    partly_epochs: int = 4
    rounds: int = 5


FULL = Sizes(
    train=400,
    validation=200,
    full_trials=20,
    full_epochs=5,
    probe_script=(40, 20),
    partly_trials=10,
    partly_epochs=10,
)


@dataclass(frozen=True)
class Bench:
    """What every part works with."""

    script: Script
    ours: Ours
    job: Job
    sizes: Sizes
    cache: Path


@dataclass(frozen=True)
class Pairs:
    """Trials of both sides, one by one."""

    script: tuple[Done, ...]
    ours: tuple[Done, ...]

    def ratios(self, seconds: Callable[[Done], float]) -> list[float]:
        """How many times as long the script took."""
        return sorted(
            seconds(theirs) / seconds(own)
            for theirs, own in zip(self.script, self.ours, strict=True)
        )


def say(line: str) -> None:
    """Print a line of the table."""
    print(line, flush=True)  # noqa: T201 - the table is the product


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest, and of how many."""
    return {
        "median": round(statistics.median(values), 4),
        "spread": [round(min(values), 4), round(max(values), 4)],
        "pairs": len(values),
    }


def between(figures: dict[str, Any]) -> str:
    """The spread in words."""
    least, greatest = figures["spread"]
    return f"{least:.4g} to {greatest:.4g}"


def configurations(job: Job, count: int) -> list[Job]:
    """The same trials for both sides: learning rates from 1e-4 to 3e-3, a seed each."""
    steps = max(1, count - 1)
    return [
        replace(job, seed=number, learning_rate=1e-4 * 30 ** (number / steps))
        for number in range(count)
    ]


def paired(bench: Bench, jobs: Sequence[Job]) -> Pairs:
    """Train every job on both sides, in alternating order."""
    done: dict[bool, list[Done]] = {True: [], False: []}
    sides: dict[bool, Side] = {True: bench.ours, False: bench.script}
    for number, job in enumerate(jobs):
        for is_ours in (number % 2 == 0, number % 2 == 1):
            done[is_ours].append(sides[is_ours].train(job))
    return Pairs(tuple(done[False]), tuple(done[True]))


def compared(pairs: Pairs, pictures: int, epochs: int, name: str) -> dict[str, Any]:
    """Figures of paired trials, printed too."""
    wall, cpu = pairs.ratios(lambda d: d.wall_s), pairs.ratios(lambda d: d.cpu_s)
    theirs = statistics.median(d.wall_s for d in pairs.script)
    own = statistics.median(d.wall_s for d in pairs.ours)
    figures = {
        **spread(wall),
        "cpu_ratio": round(statistics.median(cpu), 2),
        "whole_ratio": round(
            sum(d.wall_s for d in pairs.script) / sum(d.wall_s for d in pairs.ours), 2
        ),
        "trials": len(wall),
        "epochs": epochs,
        "script_s_per_trial": round(theirs, 3),
        "ours_s_per_trial": round(own, 3),
    }
    say(
        f"{name:>20}: {figures['median']:6.2f} x ({between(figures)}; CPU {figures['cpu_ratio']} x; "
        f"{len(wall)} trials of {epochs} epochs; a training picture and epoch: script "
        f"{1e3 * theirs / pictures / epochs:.2f} ms, ours {1e3 * own / pictures / epochs:.2f} ms)"
    )
    return figures


def full_study(bench: Bench) -> dict[str, Any]:
    """Everything is trained; the same trials give the accuracies and the shares of our own time."""
    sizes = bench.sizes
    job = replace(bench.job, epochs=sizes.full_epochs)
    bench.ours.train(replace(job, epochs=1))
    pairs = paired(bench, configurations(job, sizes.full_trials))
    figures = compared(pairs, sizes.train, sizes.full_epochs, "full_study")
    differences = [
        own.accuracy - theirs.accuracy
        for own, theirs in zip(pairs.ours, pairs.script, strict=True)
    ]
    mean = statistics.fmean(differences)
    half = 1.96 * statistics.stdev(differences) / len(differences) ** 0.5
    accuracy = {
        **spread(differences),
        "mean": round(mean, 4),
        "interval": [round(mean - half, 4), round(mean + half, 4)],
        "script": round(statistics.fmean(d.accuracy for d in pairs.script), 4),
        "ours": round(statistics.fmean(d.accuracy for d in pairs.ours), 4),
    }
    say(
        f" accuracy_difference: {100 * mean:+.1f} points ({100 * (mean - half):+.1f} to {100 * (mean + half):+.1f}; "
        f"script {accuracy['script']:.3f}, ours {accuracy['ours']:.3f})"
    )
    shares = [1 - (d.begin_s + sum(d.epoch_s)) / d.wall_s for d in pairs.ours]
    share = statistics.median(shares)
    say(
        f"    checkpoint_share: {100 * share:.1f} % of a trial ({100 * min(shares):.1f} to {100 * max(shares):.1f}): "
        "copying states, writing them, reporting, waiting for the verdict"
    )
    return {
        "full_study": figures,
        "accuracy_difference": accuracy,
        "checkpoint_share": spread(shares),
    }


def partly_frozen(bench: Bench) -> dict[str, Any]:
    """Stem and three of four layers keep their weights."""
    sizes = bench.sizes
    job = replace(bench.job, epochs=sizes.partly_epochs, frozen_stages=PARTLY_STAGES)
    pairs = paired(bench, configurations(job, sizes.partly_trials))
    return {"partly_frozen": compared(pairs, sizes.train, sizes.partly_epochs, "partly_frozen")}


def linear_probe_study(bench: Bench) -> dict[str, Any]:
    """All stages frozen; ours runs the whole study from a cold cache, the script a part where not `--full`.

    Ours holds as many leases at a time as an agent does by itself.
    """
    sizes = bench.sizes
    job = replace(bench.job, frozen_stages=PROBE_STAGES)
    trials, epochs = sizes.probe_script
    # Warm as the script is, which has imported everything: other pictures, and a backbone that is not kept.
    bench.ours.train(replace(job, side=32, epochs=1, weights="none"))
    theirs = [
        bench.script.train(replace(one, epochs=epochs)).wall_s / epochs
        for one in configurations(job, trials)
    ]
    own_s, first_s = bench.ours.study(
        [
            replace(one, epochs=sizes.probe_epochs)
            for one in configurations(job, sizes.probe_trials)
        ],
        together=TOGETHER,
    )
    per_epoch = statistics.median(theirs)
    whole = sizes.probe_trials * sizes.probe_epochs
    ratios = [seconds * whole / own_s for seconds in theirs]
    figures: dict[str, Any] = {
        **spread(ratios),
        "trials": sizes.probe_trials,
        "epochs": sizes.probe_epochs,
        "script_s": round(per_epoch * whole, 1),
        "script_trials_run": trials,
        "script_epochs_run": epochs,
        "together": TOGETHER,
        "ours_s": round(own_s, 2),
        "ours_first_trial_s": round(first_s, 2),
        "ours_each_other_trial_s": round((own_s - first_s) / (sizes.probe_trials - 1), 3),
    }
    say(
        f"  linear_probe_study: {figures['median']:6.0f} x ({between(figures)}; {sizes.probe_trials} trials x "
        f"{sizes.probe_epochs} epochs: script {figures['script_s']} s (from {trials} x {epochs} run), ours {figures['ours_s']} s: "
        f"the first {figures['ours_first_trial_s']} s, then {figures['ours_each_other_trial_s']} s each, {TOGETHER} at a time)"
    )
    return {"linear_probe_study": figures}


def between_trials(bench: Bench) -> dict[str, Any]:
    """From a trial's last verdict to the next one's first step, resnet50; its best checkpoint is written in between."""
    weights = random_weights(bench.cache, "resnet50")
    job = replace(bench.job, backbone="resnet50", weights=str(weights), epochs=1, batch_size=64)
    done = [bench.ours.train(one) for one in configurations(job, bench.sizes.rounds + 1)]
    gaps = [before.end_s + after.begin_s for before, after in itertools.pairwise(done)]
    median = statistics.median(gaps)
    writing = statistics.median(d.end_s for d in done)
    say(
        f"    between_trials_s: {median:6.3f} s ({min(gaps):.3f} to {max(gaps):.3f}), {writing:.3f} of it the last checkpoint; "
        f"cold start of the backbone {done[0].begin_s:.2f} s"
    )
    return {
        "between_trials_s": {
            **spread(gaps),
            "last_checkpoint_s": round(writing, 3),
            "first_trial_begins_s": round(done[0].begin_s, 3),
        }
    }


def input_pipeline(bench: Bench) -> dict[str, Any]:
    """Pictures from disk to a normalised batch, no model."""
    own, theirs = worker_loops.pipelines(
        bench.job, bench.cache / "ours" / "data", bench.sizes.rounds
    )
    figures = spread([b / a for a, b in zip(own, theirs, strict=True)])
    say(
        f"      input_pipeline: {figures['median']:6.1f} x ({between(figures)}; a picture: script "
        f"{1e3 * statistics.median(theirs):.3f} ms, ours {1e3 * statistics.median(own):.4f} ms)"
    )
    return {"input_pipeline": figures}


def fit_vs_bare_loop(bench: Bench) -> dict[str, Any]:
    """`fit` against the fastest loop that we know, over tensors that are just there."""
    ratios = worker_loops.fit_against_bare_loop(bench.job, bench.sizes.rounds)
    figures = spread(ratios)
    say(
        f"    fit_vs_bare_loop: {figures['median']:6.3f} ({between(figures)}) of its pictures a second"
    )
    return {"fit_vs_bare_loop": figures}


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "input_pipeline": input_pipeline,
    "fit_vs_bare_loop": fit_vs_bare_loop,
    "full_study": full_study,
    "partly_frozen": partly_frozen,
    "linear_probe_study": linear_probe_study,
    "between_trials_s": between_trials,
}


def random_weights(folder: Path, backbone: str) -> Path:
    """Random weights in a file, which both sides read as if they were published ones."""
    path = folder / f"{backbone}.pth"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(models.get_model(backbone, weights=None).state_dict(), path)
    return path


def best_workers(script: Script, job: Job) -> int:
    """How many DataLoader processes serve the script best: two epochs with each."""
    counts = [0, 2] + [8] * ((os.cpu_count() or 1) >= 8)
    script.train(replace(job, epochs=1, workers=0))
    seconds = {
        workers: script.train(replace(job, epochs=2, workers=workers)).wall_s
        for workers in counts
    }
    told = ", ".join(f"{taken:.1f} s with {count}" for count, taken in seconds.items())
    say(f"the script's DataLoader: {told} processes")
    return min(seconds, key=lambda workers: seconds[workers])


def run(names: Sequence[str], sizes: Sizes, cache: Path, device: str) -> dict[str, Any]:
    """Measure the parts named."""
    cache.mkdir(parents=True, exist_ok=True)
    pictures = worker_pictures.make(
        cache, train=sizes.train, validation=sizes.validation, test=12
    )
    weights = random_weights(cache, "resnet18")
    job = Job(pictures=str(pictures), weights=str(weights), device=device)
    where = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    say(
        f"{sizes.train} + {sizes.validation} synthetic JPEGs of {worker_pictures.SIDE} px, resnet18 at {job.side} px, "
        f"batch {job.batch_size}, {where}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(dir=cache) as fresh,
        both(Path(fresh) / "ours", device) as (script, ours),
    ):
        job = replace(job, workers=best_workers(script, job))
        bench = Bench(script, ours, job, sizes, Path(fresh))
        for name in names:
            figures |= PARTS[name](bench)
    return figures


def main() -> None:
    """Parse and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--trials", type=int, help="of the full and the partly frozen study")
    parser.add_argument(
        "--full", action="store_true", help="20 full trials, 40 probes, all run"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "trimtab-bench"
    )
    arguments = parser.parse_args()
    sizes = FULL if arguments.full else Sizes()
    if arguments.trials:
        sizes = replace(sizes, full_trials=arguments.trials, partly_trials=arguments.trials)
    began = time.perf_counter()
    figures = run(arguments.part, sizes, arguments.cache, arguments.device)
    say(f"took {time.perf_counter() - began:.0f} s")
    if arguments.json:
        say(json.dumps(figures))


if __name__ == "__main__":
    main()
