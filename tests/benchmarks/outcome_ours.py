"""Our side of `./run bench outcome`: the product itself, a service process and worker processes with a database of theirs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.outcome_results import Done
from tests.benchmarks.outcome_tasks import Job, Laid
from tests.support import lab
from tests.support.workers import a_worker
from trimtab import lifeline
from trimtab.client import Client
from trimtab.contract.studies import StudyDocument
from worker.commands import predict
from worker.training.model.export import load_exported
from worker.training.model.predictor import Prediction

READY_S = 90.0
WIDE: Mapping[str, Any] = {
    "optimizer": {"kind": "choices", "choices": ["sgd", "adam", "adamw"]},
    "learning_rate": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "weight_decay": {"kind": "float", "low": 1e-6, "high": 1e-1, "log": True},
    "batch_size": {"kind": "choices", "choices": [16, 32, 64]},
    "schedule": {"kind": "choices", "choices": ["constant", "cosine"]},
    "augmentation": {"kind": "choices", "choices": ["none", "flip", "flip_crop"]},
    "label_smoothing": {"kind": "choices", "choices": [0.0, 0.1]},
}
"""The space that the script searches, in the product's words."""
SINGLE: Mapping[str, Any] = {"finish": {"refit": True, "ensemble": 1}}
DOCUMENTS: Mapping[str, Mapping[str, Any]] = {
    "single": SINGLE,
    "ensemble": {"finish": {"refit": True, "ensemble": 3, "refits": 1}},
}
"""What the document of each side says; the `without` ones take one rule out of `single`."""
WITHOUT: Mapping[str, Mapping[str, Any]] = {
    "known_recipes": {**SINGLE, "search": {"known_recipes": False}},
    "auto_space": {**SINGLE, "space": WIDE},
    "refit": {"finish": {"refit": False}},
    "late_pruning": {**SINGLE, "search": {"pruner": {"kind": "median", "warmup_epochs": 0}}},
}
LIVE: Mapping[str, Mapping[str, Any]] = {
    "live_tpe": {"search": {"sampler": "tpe", "pruner": {"kind": "median"}}},
    "live_auto": {"search": {"sampler": "auto"}},
}
"""Searches that are held against each other: no finish, and as many epochs as twice `--trials` whole trainings take, or
as many seconds of devices as `--live-seconds` says."""
VALIDATED = "_validated"
"""Ends the name of the validation value of a side's best trial, which is what a search is after."""


def documents() -> dict[str, Mapping[str, Any]]:
    """Return what the document of each side says beside the task, the model and the budget."""
    without = {f"without_{rule}": said for rule, said in WITHOUT.items()}
    return {**DOCUMENTS, **without, **LIVE}


@dataclass(frozen=True)
class Product:
    """A running service with workers."""

    client: Client
    folder: Path

    def run(
        self,
        job: Job,
        laid: Laid,
        study: int,
        trials: int,
        sides: Sequence[str],
        *,
        live_s: float | None = None,
    ) -> Generator[Done]:
        """Run one study a side, all at a time, and yield what they came to.

        Args:
            live_s: what bounds a live side, in seconds of devices; None: as many epochs as twice the trials take.

        Raises:
            RuntimeError: a study ended without a model.
        """
        names = {side: f"{job.name}-{study}-{side}" for side in sides}
        for side in sides:
            said = documents()[side]
            if side in LIVE:
                said = {**said, **_live(job, trials, live_s)}
            self.client.create_study(document(job, laid, names[side], study, trials, said))
        for name in names.values():
            for _ in self.client.events(name):
                pass
        for side, name in names.items():
            done = self._done(job, laid, study, side, name)
            yield done
            if side in LIVE and done.validation is not None:
                yield Done(job.name, study, side + VALIDATED, (done.validation,), done.epochs)

    def _done(self, job: Job, laid: Laid, study: int, side: str, name: str) -> Done:
        told = self.client.study(name)
        if told.final is None or told.best is None:
            raise RuntimeError(f"{name} is {told.state} without a model: {told.problem}")
        finish, report = told.document.finish, told.final.report
        refits = 0 if finish is None else finish.trainings
        return Done(
            job.name,
            study,
            side,
            (told.final.test_value,),
            told.progress.epochs + refits * job.epochs,
            device_s=round(told.progress.device_seconds, 1),
            validation=told.best.value,
            more=self._more(laid, name) if laid.more.exists() else {},
            report=None if report is None else report.model_dump(mode="json"),
        )

    def _more(self, laid: Laid, name: str) -> dict[str, float]:
        """Measure the study's models on further pictures, through the files that a person takes away."""
        found: dict[str, float] = {}
        for which in ("handed_over", "validated"):
            path = self.folder / f"{name}-{which}.safetensors"
            model = self.client.download_model(name, path, which=which)
            found[which] = _accuracy(model, laid.more)
        return found


def document(
    job: Job, laid: Laid, name: str, study: int, trials: int, said: Mapping[str, Any]
) -> StudyDocument:
    """Return the document of a study; what it says of the search's space is nothing, unless `said` holds one."""
    dataset = {"kind": "image_folder", "path": str(laid.data)}
    fields: dict[str, Any] = {
        "name": name,
        "task": {"kind": "classification", "dataset": dataset},
        "model": job.model,
        "fixed": {"epochs": job.epochs},
        "budget": _budget(job, trials),
    }
    # A study must not learn from others that saw the same pictures.
    search = {"seed": study, "transfer": "none", **said.get("search", {})}
    return StudyDocument.model_validate({**fields, **said, "search": search})


def _live(job: Job, trials: int, seconds: float | None) -> dict[str, Any]:
    budget: dict[str, float] = {**_budget(job, 2 * trials)}
    if seconds is not None:
        budget = {"trials": 100 * trials, "device_seconds": seconds}
    return {"budget": budget, "finish": {"refit": False}}


def _budget(job: Job, runs: int) -> dict[str, int]:
    """Return what as many epochs as `runs` whole trainings take allow: what the pruner saves goes into further trials."""
    return {"trials": 3 * runs, "epochs": runs * job.epochs}


def _accuracy(model: Path, folder: Path) -> float:
    pictures = predict.files([folder])
    told = load_exported(model).predict([Path(one.name) for one in pictures])
    hits = [
        isinstance(one, Prediction) and one.class_name == Path(picture.name).parent.name
        for one, picture in zip(told, pictures, strict=True)
    ]
    return sum(hits) / len(hits)


@contextmanager
def product(folder: Path, workers: int, threads: int) -> Generator[Product]:
    """Start the service on an embedded database, and workers that know the lab's mobile net; all leave at the end."""
    env = {"OMP_NUM_THREADS": str(threads)}
    options = ("--device", "cpu", "--threads", str(threads))
    own = ("--backbones", str(lab.register_mobilenet(folder)))
    with _service(folder) as url, Client(url) as client, ExitStack() as stack:
        for number in range(workers):
            cache = folder / f"cache-{number}"
            stack.enter_context(
                a_worker(url, cache, *options, *own, runner="worker.runner", env=env)
            )
        yield Product(client, folder)


@contextmanager
def _service(folder: Path) -> Generator[str]:
    argv = ["--port", "0", "--data-dir", str(folder / "service")]
    child = lifeline.spawn(
        [sys.executable, "-P", "-m", "service", *argv],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    if child.process.stdout is None:
        raise RuntimeError("the service has no output")
    with child.process.stdout as announced:
        url = json.loads(announced.readline())["url"]
        _wait(url)
        yield url
        child.let_go()
        child.process.wait(READY_S)


def _wait(url: str) -> None:
    deadline = time.monotonic() + READY_S
    with Client(url, retry_for_s=0) as client:
        while not client.is_ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the service at {url} is not ready")
            time.sleep(0.1)
