"""What fine-tuning real pretrained weights is worth on tasks that they have not seen, before and after.

    python -m tests.benchmarks.adaptation [--seeds 3] [--only TASK ...] [--json]

A MobileNet pretrained on ImageNet, registered as a person's own backbone, learns ants and bees from 195 photos; the
ResNet-20 pretrained on CIFAR-10 learns 156 handwritten characters from 13 pictures each, and CIFAR-10 itself from
JPEGs so compressed that they are another domain. Each training keeps its last epoch and
meets the test split once, as a study's winner does. Learning rates were chosen by validation accuracy on another seed.
"""

import argparse
import json
import statistics
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.support import lab
from trimtab.contract.datasets import ImageFolderDataset
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker import data
from worker.training.final.evaluation import final_evaluation
from worker.training.final.scores import FinalScores
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones
from worker.training.model.user_backbones import OwnBackbones

CPU = torch.device("cpu")
SGD = Recipe(optimizer="sgd", weight_decay=1e-4, warmup_epochs=0.5)


@dataclass(frozen=True)
class Job:
    """One pretrained model and one task."""

    name: str
    archive: str
    backbone: str
    weights: str
    recipe: Recipe


JOBS = (
    Job(
        name="mobilenet_ants_bees",
        archive="ants_bees",
        backbone="user:mbv2",
        weights="mbv2-w0.35_imagenet_bn.pt",
        recipe=SGD.model_copy(update={"epochs": 10, "learning_rate": 3e-3}),
    ),
    Job(
        name="resnet20_omniglot",
        archive="omniglot_small2",
        backbone="cifar_resnet20",
        weights="resnet20-12fca82f.th",
        recipe=SGD.model_copy(update={"epochs": 5, "learning_rate": 0.1}),
    ),
    Job(
        name="resnet20_cifar10_jpeg",
        archive="cifar10_jpeg",
        backbone="cifar_resnet20",
        weights="resnet20-12fca82f.th",
        recipe=SGD.model_copy(update={"epochs": 1, "learning_rate": 1e-2, "batch_size": 128}),
    ),
)


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.adaptation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[job.name for job in JOBS])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not (lab.FOLDER / "user_backbones.py").exists():
        parser.error(f"the data of this benchmark are not in {lab.FOLDER} (TRIMTAB_LAB_DATA)")
    torch.set_num_threads(1)
    figures: dict[str, dict[str, float]] = {}
    for job in JOBS:
        if options.only is None or job.name in options.only:
            figures[job.name] = _measure(job, options.seeds)
    if options.json:
        _say(json.dumps(figures))


def _measure(job: Job, seeds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tarfile.open(lab.FOLDER / f"{job.archive}.tar") as archive:
            archive.extractall(folder, filter="data")
        own = OwnBackbones.gather([lab.register_mobilenet(folder)])
        scores = [_adapt(job, folder, own, seed) for seed in range(seeds)]
    after, before, probe = ([read(each) for each in scores] for read in _READ)
    _say(
        f"{job.name}: before {_points(before)}, linear probe {_points(probe)}, after {_points(after)} % "
        f"of {scores[0].test_count} test pictures ({seeds} seeds)"
    )
    return {
        "before": statistics.fmean(before),
        "linear_probe": statistics.fmean(probe),
        "after": statistics.fmean(after),
        "after_std": _spread(after),
    }


_READ: tuple[Callable[[FinalScores], float], ...] = (
    lambda scores: scores.test["accuracy"],
    lambda scores: scores.before["accuracy"],
    lambda scores: scores.linear_probe["accuracy"],
)


def _adapt(job: Job, folder: Path, own: OwnBackbones, seed: int) -> FinalScores:
    """Train as a trial does, and evaluate what it keeps as a final lease does."""
    dataset = ImageFolderDataset(kind="image_folder", path=str(folder / job.archive))
    task = Task(kind="classification", dataset=dataset)
    model = Model(backbone=job.backbone, weights=str(lab.FOLDER / job.weights))
    wanted = backbones.input_spec(model, job.recipe, own)
    seen = data.load(task, cache_dir=folder / "cache", wanted=wanted)
    student = backbones.build(model, classes=seen.outputs, seed=seed, own=own)
    epochs = fit(TrainingRequest(student, seen, job.recipe, seed=seed, device=CPU))
    *_, kept = (epoch.state(whole=False) for epoch in epochs if epoch.kept)
    return final_evaluation(
        task,
        model,
        job.recipe,
        kept,
        seal=data.Seal("final"),
        cache_dir=folder / "cache",
        own=own,
        device=CPU,
    )


def _points(values: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(values):.1f} ± {100 * _spread(values):.1f}"


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
