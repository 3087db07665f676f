"""The two sides of the worker's benchmark, each a warm process that trains one trial when it is told to."""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from tests.benchmarks.text_jobs import TextJob
from tests.benchmarks.worker_jobs import Done, Job, Stopwatch
from trimtab import lifeline
from trimtab.contract.leases import Completed, Lease
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker import checkpoints
from worker.agent import runner_process
from worker.agent.events import RunnerExited, RunnerMessage
from worker.agent.runner_process import RunnerProcess
from worker.pipe_messages import Began, Ended, EpochDone, News, Progress, Ready, RunTrial, Steer


class Side(Protocol):
    """Trains trials."""

    def train(self, job: Job | TextJob) -> Done:
        """Train one."""
        ...


class Script:
    """The script a person would write, a module that answers a line for each job."""

    def __init__(self, module: str = "tests.benchmarks.worker_script") -> None:
        argv = [sys.executable, "-m", module]
        self._child = lifeline.spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._line()

    def train(self, job: Job | TextJob) -> Done:
        """Train one trial."""
        stdin = self._child.process.stdin
        if stdin is None:
            raise RuntimeError("the script has no input")
        stdin.write(json.dumps(dataclasses.asdict(job)) + "\n")
        stdin.flush()
        told: dict[str, float] = json.loads(self._line())
        return Done(told["wall_s"], told["cpu_s"], told["accuracy"])

    def close(self) -> None:
        """Let it leave."""
        self._child.let_go()
        self._child.process.wait()

    def _line(self) -> str:
        stdout = self._child.process.stdout
        line = stdout.readline() if stdout is not None else ""
        if not line:
            raise RuntimeError("the script has died")
        return line


class Ours:
    """The worker's own training process, spoken to over its pipes as the agent does."""

    def __init__(
        self, cache_dir: Path, device: str, lease_of: Callable[[Any], Lease] | None = None
    ) -> None:
        self._cache_dir = cache_dir
        self._lease_of: Callable[[Any], Lease] = lease_of or _lease
        self._news: SimpleQueue[RunnerMessage | RunnerExited] = SimpleQueue()
        arguments = ("--device", device, "--cache-dir", str(cache_dir))
        argv = runner_process.command("worker.runner", arguments)
        self._runner = RunnerProcess(argv, self._news.put)
        if not isinstance(told := self._next(), Ready):
            raise RuntimeError(f"the runner said {told}")

    def train(self, job: Job | TextJob) -> Done:
        """Train one trial: every epoch is reported and answered, checkpoints are written as always."""
        watch, began = Stopwatch(self._runner.pid), time.perf_counter()
        lease = self._lease_of(job)
        folder = checkpoints.folder_of(self._cache_dir / "checkpoints", lease)
        self._runner.send(RunTrial(lease=lease, folder=folder))
        seconds: list[float] = []
        values: list[float] = []
        first_s, last = 0.0, began
        while not isinstance(news := self._next(), Ended):
            if not isinstance(news, EpochDone):
                continue
            seconds.append(float(news.report.metrics["seconds"]))
            values.append(float(news.report.value or 0.0))
            last = time.perf_counter()
            first_s = first_s or last - began - seconds[0]
            self._runner.send(
                Steer(lease_id=lease.lease_id, verdict="continue", step=news.report.step)
            )
        wall_s, cpu = watch.read()
        if not isinstance(news.outcome, Completed):
            raise RuntimeError(f"the trial ended with {news.outcome}")
        checkpoints.discard_trial(folder)
        end_s = time.perf_counter() - last
        # The best epoch's, as the script tells it; what the trial is worth to its study is another number.
        return Done(wall_s, cpu, max(values), tuple(seconds), first_s, end_s)

    def study(
        self, jobs: Sequence[Job] | Sequence[TextJob], together: int
    ) -> tuple[float, float]:
        """Train one trial after the other, as an agent that may hold so many leases: seconds for all, and of the first.

        Others are sent as soon as one says that it takes company.
        """
        began, first_s = time.perf_counter(), 0.0
        waiting = [self._lease_of(job) for job in reversed(jobs)]
        going: set[uuid.UUID] = set()

        def send(most: int) -> None:
            while waiting and len(going) < most:
                lease = waiting.pop()
                folder = checkpoints.folder_of(self._cache_dir / "checkpoints", lease)
                self._runner.send(RunTrial(lease=lease, folder=folder))
                going.add(lease.lease_id)

        send(1)
        most = 1
        while going:
            match self._next():
                case Began(may_group=may_group):
                    most = together if may_group else 1
                case EpochDone(lease_id=lease_id, report=report):
                    steer = Steer(lease_id=lease_id, verdict="continue", step=report.step)
                    self._runner.send(steer)
                case Ended(lease_id=lease_id, outcome=Completed()):
                    going.remove(lease_id)
                    first_s = first_s or time.perf_counter() - began
                case news:
                    raise RuntimeError(f"the runner said {news}")
            send(most)
        shutil.rmtree(self._cache_dir / "checkpoints")
        return time.perf_counter() - began, first_s

    def close(self) -> None:
        """Let it leave."""
        self._runner.close()

    def _next(self) -> News:
        while True:
            said = self._news.get()
            if isinstance(said, RunnerExited):
                raise RuntimeError(f"the runner has died: {said.failure.message}")
            if not isinstance(said.news, Progress):
                return said.news


def _lease(job: Job) -> Lease:
    fields: dict[str, Any] = {
        "epochs": job.epochs,
        "batch_size": job.batch_size,
        "learning_rate": job.learning_rate,
        "weight_decay": 0.0,
        "optimizer": "adam",
        "schedule": "constant",
        "frozen_stages": job.frozen_stages,
        "image_size": job.side,
    }
    dataset = {"kind": "image_folder", "path": job.pictures}
    model = {"backbone": job.backbone, "weights": job.weights}
    return lease_of_fields(
        job.seed, {"kind": "classification", "dataset": dataset}, model, fields
    )


def lease_of_fields(
    seed: int, task: dict[str, Any], model: dict[str, Any], recipe: dict[str, Any]
) -> Lease:
    """Return a lease on a trial."""
    return Lease(
        lease_id=uuid.uuid4(),
        kind="trial",
        study="benchmark",
        trial_number=seed,
        fence=1,
        ttl_s=60.0,
        seed=seed,
        task=Task.model_validate(task),
        model=Model.model_validate(model),
        hyperparameters={"learning_rate": recipe["learning_rate"]},
        recipe=Recipe.model_validate(recipe),
    )


@contextmanager
def both(cache_dir: Path, device: str) -> Generator[tuple[Script, Ours]]:
    """Start both; they are warm when this returns."""
    script = Script()
    try:
        ours = Ours(cache_dir, device)
        try:
            yield script, ours
        finally:
            ours.close()
    finally:
        script.close()
