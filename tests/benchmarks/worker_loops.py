"""The loops inside a trial, alone: from pictures to batches, and from batches to weights."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from tests.benchmarks import worker_script
from tests.benchmarks.worker_jobs import Job
from trimtab.contract.datasets import ImageFolderDataset
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker import data
from worker.data import Split, TaskData
from worker.data.modality import ImageSpec
from worker.training.device.placement import PlacedSplit, autocast, row_batches
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones

PASSES = 20
"""Of ours for one of the script's: a pass over a small cache is too short to time."""


def pipelines(job: Job, cache_dir: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds a picture of ours and of the script's, round by round, after the first epoch."""
    task = Task(
        kind="classification",
        dataset=ImageFolderDataset(kind="image_folder", path=job.pictures),
    )
    seen = data.load(task, cache_dir=cache_dir, wanted=ImageSpec(job.side))
    model = backbones.build(
        Model(backbone=job.backbone, weights="none"), classes=seen.classes, seed=0
    )
    device = torch.device(job.device)
    model.to(device)
    split = PlacedSplit(seen.train, device)

    def own_epoch() -> None:
        for _ in range(PASSES):
            for rows in row_batches(torch.randperm(len(split)), job.batch_size):
                model.input(split.take(rows)[0])

    loader = worker_script.loaders(job)["train"]

    def their_epoch() -> None:
        for images, _ in loader:
            images.to(device).sum()

    own_epoch()
    their_epoch()
    own: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        own.append(_seconds(own_epoch, device) / PASSES / len(split))
        theirs.append(_seconds(their_epoch, device) / len(split))
    return own, theirs


def fit_against_bare_loop(job: Job, rounds: int) -> list[float]:
    """Pictures a second of `fit` over those of a loop on tensors of the same model, pair by pair."""
    count = (64 if job.device == "cuda" else 8) * job.batch_size
    images = np.random.default_rng(0).integers(0, 256, (count, job.side, job.side, 3), np.uint8)
    labels = np.arange(count, dtype=np.int64) % 10
    seen = TaskData(
        train=Split(images, labels),
        validation=Split(images[:1], labels[:1]),
        classes=tuple("0123456789"),
        sha256="0" * 64,
        counts={"train": count, "validation": 1, "test": 0},
    )
    recipe = Recipe(
        epochs=rounds + 1, batch_size=job.batch_size, optimizer="adam", schedule="constant"
    )
    spec = Model(backbone=job.backbone, weights="none")
    device = torch.device(job.device)
    epochs = fit(
        TrainingRequest(
            backbones.build(spec, classes=seen.classes, seed=0),
            seen,
            recipe,
            seed=0,
            device=device,
        )
    )
    bare = _bare_loop(spec, job, count // job.batch_size)
    next(epochs)
    bare()
    ratios: list[float] = []
    for _ in range(rounds):
        ours = _seconds(lambda: next(epochs), device)
        ratios.append(_seconds(bare, device) / ours)
    return ratios


def _bare_loop(spec: Model, job: Job, steps: int) -> Callable[[], None]:
    network = backbones.build(spec, classes=tuple("0123456789"), seed=0).network.train()
    device = torch.device(job.device)
    network.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    images = torch.randn(job.batch_size, 3, job.side, job.side)
    images = images.to(device).to(memory_format=torch.channels_last)
    labels = torch.arange(job.batch_size, device=device) % 10

    def loop() -> None:
        for _ in range(steps):
            with autocast(device):
                loss = functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return loop


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _wait_for(device)
    began = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
