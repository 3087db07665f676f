"""What a person does without us: one plain run, and a script that lets Optuna tune.

Both are torchvision's way: ImageFolder, resize and middle crop, the weights' own normalisation, a new last layer, float32.
Pictures are decoded once. The plain run is AdamW at a constant 1e-3 on all of train, and its last epoch is what one has.
The tuned one holds a fifth of train out, takes TPE and the median pruner as they come in a usual wide space, and keeps the
best epoch of the best trial by validation accuracy.
"""

import copy
import importlib.util
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
import torch
from sklearn import model_selection
from torch import Tensor, nn
from torch.nn import functional
from torchvision import datasets, transforms

from tests.benchmarks.outcome_tasks import Job, Laid
from tests.support import lab
from worker.training import safetensors_files
from worker.training.model import glyphnet
from worker.training.model.backbones import GLYPHNET_WEIGHTS

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Part:
    """Pictures `(N, C, H, W)`, normalised, and the numbers of their classes `(N,)`."""

    pictures: Tensor
    labels: Tensor

    def rows(self, rows: list[int]) -> "Part":
        """Return some of them."""
        return Part(self.pictures[rows], self.labels[rows])


@dataclass(frozen=True)
class Data:
    """What the person has."""

    train: Part
    test: Part
    classes: int


@dataclass(frozen=True)
class Plan:
    """How one run trains; the defaults are the plain run's."""

    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 32
    schedule: str = "constant"
    augmentation: str = "none"
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class Result:
    """What a side came to: the test accuracy of its model, or of one for each seed, and what it took."""

    accuracies: tuple[float, ...]
    epochs: int
    cpu_s: float
    validation: float | None = None


def read(job: Job, laid: Laid) -> Data:
    """Decode both folders."""
    mean, std = {"glyphnet": (glyphnet.MEAN, glyphnet.STD), "user:mbv2": HALF}.get(
        job.backbone, IMAGENET
    )
    grey = [transforms.Grayscale()] if len(mean) == 1 else []
    transform = transforms.Compose(
        [
            *grey,
            transforms.Resize(job.side),
            transforms.CenterCrop(job.side),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )

    def part(name: str) -> tuple[Part, int]:
        folder = datasets.ImageFolder(str(laid.data / name), transform)
        pictures: list[Any] = [folder[row] for row in range(len(folder))]
        labels = torch.tensor([label for _, label in pictures])
        return Part(torch.stack([one for one, _ in pictures]), labels), len(folder.classes)

    (train, classes), (test, _) = part("train"), part("test")
    return Data(train, test, classes)


def plain(job: Job, data: Data, seeds: int) -> Result:
    """Train as the plain script does, once a seed."""
    began = time.process_time()
    accuracies: list[float] = []
    for seed in range(seeds):
        network = _network(job, data.classes, seed)
        _train(network, data.train, Plan(), job.epochs, seed, lambda _: None)
        accuracies.append(_accuracy(network, data.test))
    return Result(tuple(accuracies), job.epochs, (time.process_time() - began) / seeds)


def tuned(job: Job, data: Data, trials: int, seed: int) -> Result:
    """Tune as a person's Optuna script does, and measure what it keeps.

    What the pruner saves goes into further trials: it ends when it has trained for as long as `trials` whole runs.
    """
    began = time.process_time()
    split: Any = getattr(model_selection, "train_test_split")  # noqa: B009 - its types are unknown
    rows = range(len(data.train.labels))
    kept, held = split(rows, test_size=0.2, random_state=seed, stratify=data.train.labels)
    train, validation = data.train.rows(kept), data.train.rows(held)
    best: dict[str, Any] = {"value": -1.0, "state": None, "epochs": 0}

    def objective(trial: optuna.Trial) -> float:
        network, plan = _network(job, data.classes, trial.number), _suggest(trial)
        highest = 0.0

        def after(epoch: int) -> None:
            nonlocal highest
            value = _accuracy(network, validation)
            best["epochs"] += 1
            highest = max(highest, value)
            if value > best["value"]:
                best.update(value=value, state=copy.deepcopy(network.state_dict()))
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        _train(network, train, plan, job.epochs, trial.number, after)
        return highest

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(),
    )
    while best["epochs"] < trials * job.epochs:
        study.optimize(objective, n_trials=1)
    network = _network(job, data.classes, 0)
    network.load_state_dict(best["state"])
    cpu_s = time.process_time() - began
    return Result((_accuracy(network, data.test),), best["epochs"], cpu_s, best["value"])


def _suggest(trial: optuna.Trial) -> Plan:
    return Plan(
        optimizer=trial.suggest_categorical("optimizer", ["sgd", "adam", "adamw"]),
        learning_rate=trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
        batch_size=trial.suggest_categorical("batch_size", [16, 32, 64]),
        schedule=trial.suggest_categorical("schedule", ["constant", "cosine"]),
        augmentation=trial.suggest_categorical("augmentation", ["none", "flip", "flip_crop"]),
        label_smoothing=trial.suggest_categorical("label_smoothing", [0.0, 0.1]),
    )


def _network(job: Job, classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    if job.backbone == "glyphnet":
        network = glyphnet.GlyphNet(classes)
        weights, _ = safetensors_files.read(GLYPHNET_WEIGHTS)
        rest = {name: one for name, one in weights.items() if not name.startswith("fc.")}
        network.load_state_dict(rest, strict=False)
        return network
    network = _user_backbones().load(job.weights.removesuffix(".pt"), str(lab.FOLDER))
    network.linear = nn.Linear(network.linear.in_features, classes)
    return network


def _user_backbones() -> Any:
    spec = importlib.util.spec_from_file_location(
        "user_backbones", lab.FOLDER / "user_backbones.py"
    )
    if spec is None or spec.loader is None:
        raise FileNotFoundError(lab.FOLDER / "user_backbones.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _train(
    network: nn.Module,
    part: Part,
    plan: Plan,
    epochs: int,
    seed: int,
    after: Callable[[int], None],
) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = _optimizer(network, plan)
    steps = epochs * -(-len(part.labels) // plan.batch_size)
    scheduler = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        if plan.schedule == "cosine"
        else torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    )
    rng = random.Random(seed)
    for epoch in range(epochs):
        network.train()
        order = torch.randperm(len(part.labels), generator=generator)
        for rows in torch.split(order, plan.batch_size):
            pictures = _augmented(part.pictures[rows], plan.augmentation, rng)
            optimizer.zero_grad()
            functional.cross_entropy(
                network(pictures), part.labels[rows], label_smoothing=plan.label_smoothing
            ).backward()
            optimizer.step()
            scheduler.step()
        after(epoch)


def _optimizer(network: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    weights, rate, decay = network.parameters(), plan.learning_rate, plan.weight_decay
    if plan.optimizer == "sgd":
        return torch.optim.SGD(weights, rate, momentum=0.9, weight_decay=decay)
    kind = torch.optim.Adam if plan.optimizer == "adam" else torch.optim.AdamW
    return kind(weights, rate, weight_decay=decay)


def _augmented(pictures: Tensor, augmentation: str, rng: random.Random) -> Tensor:
    if augmentation == "none":
        return pictures
    mirrored = [one.flip(-1) if rng.random() < 0.5 else one for one in pictures]
    if augmentation == "flip":
        return torch.stack(mirrored)
    side = pictures.shape[-1]
    margin = side // 8
    shifts = [(rng.randint(0, 2 * margin), rng.randint(0, 2 * margin)) for _ in mirrored]
    return torch.stack(
        [
            functional.pad(one, (margin,) * 4)[:, y : y + side, x : x + side]
            for one, (y, x) in zip(mirrored, shifts, strict=True)
        ]
    )


def _accuracy(network: nn.Module, part: Part) -> float:
    network.eval()
    with torch.inference_mode():
        told = torch.cat([network(some).argmax(1) for some in torch.split(part.pictures, 256)])
    return (told == part.labels).double().mean().item()
