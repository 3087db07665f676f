"""What fine-tuning real pretrained weights is worth on tasks that they have not seen, before and after.

    python -m tests.benchmarks.adaptation [--seeds 3] [--only TASK ...] [--json]

Texts have an encoder, all-MiniLM-L6-v2: kinds of questions (TREC), opinions on films (SST-2) and how alike two sentences
are (SICK, of which r2 is told), 640 rows of training that each seed draws, 200 of validation, 500 of the published test
split. Of pictures, a MobileNet pretrained on ImageNet, registered as a person's own backbone, learns ants and bees from 195 photos; the
ResNet-20 pretrained on CIFAR-10 learns 156 handwritten characters from 13 pictures each, and CIFAR-10 itself from
JPEGs so compressed that they are another domain. Each training keeps its last epoch and
meets the test split once, as a study's winner does. Learning rates were chosen by validation accuracy on another seed.
"""

import argparse
import csv
import json
import random
import statistics
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.support import lab
from tests.support.texts import minilm, text_task
from trimtab.contract.datasets import ImageFolderDataset
from trimtab.contract.metrics import TaskKind
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


@dataclass(frozen=True)
class TextJob:
    """One table of texts."""

    name: str
    table: str
    text: str | tuple[str, str]
    label: str
    kind: TaskKind = "classification"


TEXT_JOBS = (
    TextJob("minilm_trec", "trec.csv", "text", "kind"),
    TextJob("minilm_sst2", "sst2_sentences.csv", "text", "sentiment"),
    TextJob(
        "minilm_sick",
        "sick_pairs.csv",
        ("sentence_a", "sentence_b"),
        "relatedness",
        "regression",
    ),
)
TEXT_RECIPE = Recipe(
    epochs=3,
    learning_rate=1e-4,
    schedule="linear",
    warmup_share=0.1,
    head_factor=10.0,
    max_tokens=64,
)
"""The known recipe `warm_linear` (`trimtab/contract/priors.py`)."""
TRAIN, VALIDATION, TEST = 640, 200, 500


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.adaptation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[job.name for job in (*JOBS, *TEXT_JOBS)])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not (lab.FOLDER / "user_backbones.py").exists():
        parser.error(f"the data of this benchmark are not in {lab.FOLDER} (TRIMTAB_LAB_DATA)")
    torch.set_num_threads(1)
    figures: dict[str, dict[str, float]] = {}
    for job in (*JOBS, *TEXT_JOBS):
        if options.only is None or job.name in options.only:
            figures[job.name] = _measure(job, options.seeds)
    if options.json:
        _say(json.dumps(figures))


def _measure(job: Job | TextJob, seeds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        adapt = _on_texts(job) if isinstance(job, TextJob) else _on_pictures(job, Path(name))
        scores = [adapt(Path(name), seed) for seed in range(seeds)]
    metric = "r2" if scores[0].objective == "rmse" else "accuracy"
    after, before, probe = ([read(one)[metric] for one in scores] for read in _READ)
    _say(
        f"{job.name}: before {_points(before)}, linear probe {_points(probe)}, after {_points(after)} % "
        f"of {scores[0].test_count} test samples ({metric}, {seeds} seeds)"
    )
    return {
        "before": statistics.fmean(before),
        "linear_probe": statistics.fmean(probe),
        "after": statistics.fmean(after),
        "after_std": _spread(after),
    }


_READ: tuple[Callable[[FinalScores], Mapping[str, float]], ...] = (
    lambda scores: scores.test,
    lambda scores: scores.before,
    lambda scores: scores.linear_probe,
)
_Adapt = Callable[[Path, int], FinalScores]


def _on_pictures(job: Job, folder: Path) -> _Adapt:
    with tarfile.open(lab.FOLDER / f"{job.archive}.tar") as archive:
        archive.extractall(folder, filter="data")
    own = OwnBackbones.gather([lab.register_mobilenet(folder)])
    dataset = ImageFolderDataset(kind="image_folder", path=str(folder / job.archive))
    task = Task(kind="classification", dataset=dataset)
    model = Model(backbone=job.backbone, weights=str(lab.FOLDER / job.weights))
    return lambda folder, seed: _adapt(task, model, job.recipe, folder, own, seed)


def _on_texts(job: TextJob) -> _Adapt:
    model = Model(backbone="bert", weights=str(minilm()))

    def adapt(folder: Path, seed: int) -> FinalScores:
        table = _drawn(job, folder, seed)
        task = text_task(table, job.kind, [job.label], text=job.text, split="split")
        return _adapt(task, model, TEXT_RECIPE, folder, OwnBackbones(), seed)

    return adapt


def _drawn(job: TextJob, folder: Path, seed: int) -> Path:
    """Write a table of some of the rows: another seed learns from others, and meets the same test rows."""
    with (lab.FOLDER / job.table).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    learned = [row for row in rows if row["split"] == "train"]
    sealed = [row for row in rows if row["split"] == "test"]
    random.Random(seed).shuffle(learned)
    random.Random(0).shuffle(sealed)
    parts = {
        "train": learned[:TRAIN],
        "val": learned[TRAIN : TRAIN + VALIDATION],
        "test": sealed[:TEST],
    }
    path = folder / f"{job.name}_{seed}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "split": part} for part in parts for row in parts[part])
    return path


def _adapt(
    task: Task, model: Model, recipe: Recipe, folder: Path, own: OwnBackbones, seed: int
) -> FinalScores:
    """Train as a trial does, and evaluate what it keeps as a final lease does."""
    wanted = backbones.input_spec(model, recipe, own)
    seen = data.load(task, cache_dir=folder / "cache", wanted=wanted)
    student = backbones.build(model, classes=seen.outputs, seed=seed, own=own)
    epochs = fit(TrainingRequest(student, seen, recipe, seed=seed, device=CPU))
    *_, kept = (epoch.state(whole=False) for epoch in epochs if epoch.kept)
    return final_evaluation(
        task,
        model,
        recipe,
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
