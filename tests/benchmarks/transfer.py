"""What pretraining is worth: glyphnet from its glyph weights against the same network from random ones.

    python -m tests.benchmarks.transfer [--seeds 5] [--json]

Both learn scikit-learn's digits from 20 labels a class, with the same recipe and epochs. Each side picks its
learning rate from the same grid, by its mean accuracy on the validation split over all seeds; what is reported was
measured on pictures that neither trained on nor chose by. The sealed test split stays shut.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from trimtab.contract.datasets import BuiltinDataset
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker import data
from worker.data import Split, TaskData
from worker.training.device.placement import PlacedSplit
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones
from worker.training.objective import objectives
from worker.training.objective.evaluate import evaluate

LABELS_PER_CLASS = 20
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
RECIPE = Recipe(epochs=12, batch_size=16, weight_decay=1e-2, warmup_epochs=1.0)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Side:
    """One side's accuracies, a seed each, at its best learning rate."""

    learning_rate: float
    accuracies: tuple[float, ...]


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.transfer")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    digits = _digits()
    pretrained = _side(digits, "default", options.seeds)
    random = _side(digits, "none", options.seeds)
    differences = [
        ours - theirs
        for ours, theirs in zip(pretrained.accuracies, random.accuracies, strict=True)
    ]
    _say(
        f"pretrained {_points(pretrained.accuracies)} % at learning rate {pretrained.learning_rate}"
    )
    _say(f"random     {_points(random.accuracies)} % at learning rate {random.learning_rate}")
    _say(
        f"difference {_points(differences)} points, {options.seeds} seeds, {RECIPE.epochs} epochs"
    )
    if options.json:
        figures = {
            "labels_per_class": LABELS_PER_CLASS,
            "pretrained": pretrained.accuracies,
            "random": random.accuracies,
            "difference_mean": statistics.fmean(differences),
            "difference_std": _spread(differences),
        }
        _say(json.dumps(figures))


def few_labels(whole: TaskData, seed: int) -> tuple[TaskData, Split]:
    """Return the task with `LABELS_PER_CLASS` of train, and the rest of train to measure on."""
    random = np.random.default_rng(seed)
    labels = whole.train.labels
    chosen = np.concatenate(
        [
            random.permutation(np.flatnonzero(labels == label))[:LABELS_PER_CLASS]
            for label in range(len(whole.classes))
        ]
    )
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    return replace(whole, train=_rows(whole.train, chosen)), _rows(whole.train, rest)


def _rows(split: Split, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Split:
    return Split(split.inputs[rows], split.labels[rows])


def _digits() -> TaskData:
    task = Task(kind="classification", dataset=BuiltinDataset(kind="builtin", name="digits"))
    with tempfile.TemporaryDirectory() as folder:
        return data.load(task, cache_dir=Path(folder))


def _side(digits: TaskData, weights: str, seeds: int) -> Side:
    measured: list[tuple[float, Side]] = []
    for rate in LEARNING_RATES:
        runs = [_train(digits, weights, rate, seed) for seed in range(seeds)]
        validation = statistics.fmean(run[0] for run in runs)
        measured.append((validation, Side(rate, tuple(run[1] for run in runs))))
    return max(measured, key=lambda pair: pair[0])[1]


def _train(digits: TaskData, weights: str, rate: float, seed: int) -> tuple[float, float]:
    """Return the last epoch's accuracy on the validation split and on the pictures left over."""
    few, rest = few_labels(digits, seed)
    model = backbones.build(
        Model(backbone="glyphnet", weights=weights), classes=few.classes, seed=seed
    )
    recipe = RECIPE.model_copy(update={"learning_rate": rate})
    *_, last = fit(TrainingRequest(model, few, recipe, seed=seed, device=CPU))
    return last.value, evaluate(
        model, PlacedSplit(rest, CPU), objectives.of(few, recipe)
    ).metrics["accuracy"]


def _points(values: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(values):.2f} ± {100 * _spread(values):.2f}"


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
