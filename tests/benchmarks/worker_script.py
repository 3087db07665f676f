"""The script a person would write: ImageFolder, DataLoader, a torchvision model, Adam, Optuna.

Its objective builds everything anew for each trial and keeps the best weights on disk, as PyTorch's transfer-learning
tutorial does. It reads one trial a line from its input and answers with the best validation accuracy.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import optuna
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

from tests.benchmarks.worker_jobs import Job, Stopwatch
from trimtab import lifeline

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


def loaders(job: Job) -> dict[str, DataLoader[Any]]:
    """Make the loaders of one trial."""
    transform = transforms.Compose(
        [
            transforms.Resize((job.side, job.side)),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return {
        part: DataLoader(
            datasets.ImageFolder(os.path.join(job.pictures, part), transform),  # noqa: PTH118 - as people write it
            batch_size=job.batch_size,
            shuffle=part == "train",
            num_workers=job.workers,
        )
        for part in ("train", "val")
    }


def objective(trial: optuna.Trial, job: Job, folder: Path) -> float:
    """Train one configuration."""
    rate = trial.suggest_float("learning_rate", 1e-6, 1.0, log=True)
    torch.manual_seed(job.seed)
    parts = loaders(job)
    classes = len(cast(datasets.ImageFolder, parts["train"].dataset).classes)
    model: Any = models.get_model(job.backbone, weights=None)
    model.load_state_dict(torch.load(job.weights))
    for name in (name for names in STAGES[: job.frozen_stages] for name in names):
        for parameter in getattr(model, name).parameters():
            parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, classes)
    model.to(job.device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=rate)
    criterion = nn.CrossEntropyLoss()
    best = 0.0
    for epoch in range(job.epochs):
        model.train()
        for images, labels in parts["train"]:
            images, labels = images.to(job.device), labels.to(job.device)
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
        model.eval()
        correct = total = 0
        with torch.no_grad():
            for images, labels in parts["val"]:
                images, labels = images.to(job.device), labels.to(job.device)
                correct += int((model(images).argmax(1) == labels).sum())
                total += len(labels)
        accuracy = correct / total
        trial.report(accuracy, epoch)
        if accuracy > best:
            best = accuracy
            torch.save(model.state_dict(), folder / "best.pt")
    return best


def main() -> None:
    """Run the trials that come, until the input ends."""
    lifeline.watch(int(sys.argv[sys.argv.index("--lifeline") + 1]), lambda: os._exit(0))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    print("ready", flush=True)  # noqa: T201 - the parent reads it
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            job = Job(**json.loads(line))
            watch = Stopwatch(os.getpid())
            study.enqueue_trial({"learning_rate": job.learning_rate})
            study.optimize(
                lambda trial, job=job: objective(trial, job, Path(folder)), n_trials=1
            )
            wall_s, cpu = watch.read()
            told = {"wall_s": wall_s, "cpu_s": cpu, "accuracy": study.trials[-1].value}
            print(json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
