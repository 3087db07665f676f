"""A simulated cluster: workers that claim trials, train them by a table, report each epoch and do as they are told.

Time is that of an epoch; the trials' mathematics takes none of it.
"""

import heapq
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tests.benchmarks.replay_tasks import Curve, Point, Task

Verdict = Literal["continue", "stop", "pause"]


@dataclass(frozen=True)
class Job:
    """A trial that a worker is given: a new one, or one that goes on from where it was paused."""

    number: int
    values: Point


class Searcher(Protocol):
    """One side: a search that workers ask for trials and tell what they measured."""

    def claim(self, worker: int) -> Job | None:
        """Return what the worker is to train; None while there is nothing."""
        ...

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        """Take over the value after an epoch, counted from 1, and return what becomes of the trial."""
        ...

    def complete(self, number: int, value: float) -> None:
        """Take over that the trial has had all its epochs; its value is the best that it told."""
        ...

    def stop(self, number: int) -> None:
        """Take over that the trial ended because its verdict was `stop`."""
        ...

    def pause(self, number: int) -> None:
        """Take over that the trial is given back because its verdict was `pause`."""
        ...

    def fail(self, number: int) -> None:
        """Take over that the trial diverged, as it would anywhere; the epoch in which it did is not reported."""
        ...


@dataclass(frozen=True)
class Better:
    """A moment at which a better value than all before was measured.

    Attributes:
        at: The time, in full runs per worker.
        score: The true value of that model, in points.
    """

    at: float
    score: float


@dataclass(frozen=True)
class Replayed:
    """What a search came to.

    Attributes:
        better: The moments of progress, in their order.
        begun: The number of trials.
        completed: The number of trials that had all their epochs.
        epochs: The number of epochs that were trained.
        claim_ms: The CPU milliseconds of this process for a claim, on average.
        report_ms: The CPU milliseconds of this process for a report, on average.
    """

    better: tuple[Better, ...]
    begun: int
    completed: int
    epochs: int
    claim_ms: float
    report_ms: float


@dataclass
class _Trial:
    curve: Curve
    epochs: int = 0
    best: float | None = None


@dataclass
class _Spent:
    calls: int = 0
    seconds: float = 0.0

    @property
    def ms(self) -> float:
        return 1e3 * self.seconds / max(1, self.calls)


@dataclass
class Simulation:
    """One search by simulated workers.

    Attributes:
        searcher: The side that is asked.
        task: The task.
        workers: The number of workers.
        full_runs: The budget of each worker, in full runs of mean epochs.
        restart: The epochs that a worker loses when it takes up another trial than its last one.
        seed: The seed of the trials' own luck.
    """

    searcher: Searcher
    task: Task
    workers: int
    full_runs: float
    restart: float = 0.0
    seed: int = 0
    trials: dict[int, _Trial] = field(default_factory=dict[int, _Trial])
    _last: dict[int, int] = field(default_factory=dict[int, int])
    _due: list[tuple[float, int, int, int]] = field(
        default_factory=list[tuple[float, int, int, int]]
    )
    _order: Iterator[int] = field(default_factory=itertools.count)
    _idle: list[int] = field(default_factory=list[int])
    _better: list[Better] = field(default_factory=list[Better])
    _best: float | None = None
    _epochs: int = 0
    _completed: int = 0
    _claims: _Spent = field(default_factory=_Spent)
    _reports: _Spent = field(default_factory=_Spent)

    def run(self) -> Replayed:
        """Let the workers spend their budget; an epoch that would end after it counts for nothing."""
        self._idle = list(range(self.workers))
        self._give(0.0)
        while self._due:
            now, _, worker, number = heapq.heappop(self._due)
            if now > self.full_runs * self.task.epochs:
                break
            if not self._train(now, worker, number):
                self._idle.append(worker)
                self._give(now)
        return Replayed(
            tuple(self._better),
            len(self.trials),
            self._completed,
            self._epochs,
            self._claims.ms,
            self._reports.ms,
        )

    def _give(self, now: float) -> None:
        """Let idle workers claim; those that get nothing ask again when something has changed."""
        waiting, self._idle = self._idle, []
        for worker in reversed(waiting):  # who has just come to an end asks first
            began = time.process_time()
            job = self.searcher.claim(worker)
            _note(self._claims, began)
            if job is None:
                self._idle.append(worker)
                continue
            if job.number not in self.trials:
                luck = 100_003 * self.seed + job.number
                self.trials[job.number] = _Trial(self.task.curve(job.values, luck))
            restart = 0.0 if self._last.get(worker) == job.number else self.restart
            self._last[worker] = job.number
            self._go_on(now + restart, worker, job.number)

    def _go_on(self, now: float, worker: int, number: int) -> None:
        end = now + self.trials[number].curve.epoch_cost
        heapq.heappush(self._due, (end, next(self._order), worker, number))

    def _train(self, now: float, worker: int, number: int) -> bool:
        """End an epoch; false when the worker has left the trial."""
        trial = self.trials[number]
        trial.epochs += 1
        self._epochs += 1
        value = trial.curve.told[trial.epochs - 1]
        if math.isnan(value):
            self.searcher.fail(number)
            return False
        if self._beats(value, trial.best):
            trial.best = value
        self._remember(now, value, trial)
        began = time.process_time()
        verdict = self.searcher.report(number, trial.epochs, value)
        _note(self._reports, began)
        if verdict == "continue" and trial.epochs < self.task.epochs:
            self._go_on(now, worker, number)
            return True
        self._leave(number, trial, verdict)
        return False

    def _leave(self, number: int, trial: _Trial, verdict: Verdict) -> None:
        match verdict:
            case "continue":
                assert trial.best is not None
                self._completed += 1
                self.searcher.complete(number, trial.best)
            case "stop":
                self.searcher.stop(number)
            case "pause":
                self.searcher.pause(number)

    def _remember(self, now: float, value: float, trial: _Trial) -> None:
        if self._beats(value, self._best):
            self._best = value
            score = trial.curve.scores[trial.epochs - 1]
            self._better.append(Better(now / self.task.epochs, score))

    def _beats(self, value: float, other: float | None) -> bool:
        if other is None:
            return True
        return value > other if self.task.maximizes else value < other


def _note(spent: _Spent, began: float) -> None:
    spent.calls += 1
    spent.seconds += time.process_time() - began


def replay(
    searcher: Searcher, task: Task, *, workers: int, full_runs: float, restart: float, seed: int
) -> Replayed:
    """Simulate one search (`Simulation`)."""
    return Simulation(searcher, task, workers, full_runs, restart, seed).run()
