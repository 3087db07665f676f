"""Our side of the replay: the service's own use cases over a real database, or its sampling room over a history in memory.

Both are given the same claim ids, and the sampling room of both is told by its clock that a minute lies between any two
looks, as if epochs took so long: what was committed is always read. The room alone is ten times as fast; a test holds both
to the same trials.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from service.domain import decisions
from service.domain.facts import Changes, Cursor, TrialFacts
from service.domain.transfer import Earlier, with_transferred
from service.sampling import Next, Proposal, Resumption, Sampling, decides_at
from service.storage import history
from service.storage.artifacts import Folder
from service.storage.engine import Database
from service.use_cases import settling, studies
from service.use_cases.context import Context
from tests.benchmarks.replay_simulator import Job, Verdict
from tests.benchmarks.replay_tasks import Point, Task
from tests.support.contexts import a_worker
from tests.support.protocol import Clock, Service
from tests.unit.sampling.ledger import Ledger
from trimtab.contract.leases import Lease
from trimtab.contract.records import StudyData
from trimtab.contract.studies import StudyDocument

SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "ours random": {"sampler": "random", "pruner": "none"},
    "ours tpe": {"sampler": "tpe", "pruner": "none"},
    "ours tpe+median": {"sampler": "tpe", "pruner": "median"},
    "ours gp": {"sampler": "gp", "pruner": "none"},
    "ours gp+median": {"sampler": "gp", "pruner": "median"},
    "ours tpe+asha": {"sampler": "tpe", "pruner": "asha"},
    "ours tpe+hyperband": {"sampler": "tpe", "pruner": "hyperband"},
    "ours freeze-thaw": {"sampler": "gp", "pruner": "freeze_thaw"},
    "ours auto": {"sampler": "auto"},
}
"""What the documents of the sides say of their search; the rest is the default of a new study."""


def document(task: Task, search: Mapping[str, Any], seed: int) -> StudyDocument:
    """Return the study of a task, whose tables nobody knows a recipe for."""
    return StudyDocument.model_validate(
        {
            "name": "replay",
            "task": {
                "kind": "classification",
                "dataset": {"kind": "builtin", "name": "digits"},
                "objective": task.objective,
            },
            "model": {"backbone": "glyphnet"},
            "space": task.space,
            "fixed": {"epochs": task.epochs},
            "search": {"known_recipes": False, "transfer": "none", "seed": seed, **search},
            "budget": {"trials": 100_000},
            "finish": {"refit": False},
        }
    )


def as_stored(document: StudyDocument) -> StudyDocument:
    """Return the document as a created study has it: settled, and in the order of Postgres' `jsonb`."""
    settled = settling.with_chosen_search(settling.with_known_recipes(document))
    settled = settling.with_tpe_startup_trials(settled)
    names = sorted(settled.space, key=lambda name: (len(name), name))
    return settled.model_copy(update={"space": {name: settled.space[name] for name in names}})


def minutes() -> Iterator[float]:
    """Yield the times of a clock that shows a minute more each time that it is looked at."""
    return itertools.count(0.0, 60.0)


@dataclass
class Claims:
    """Names claims, each run alike."""

    count: int = 0

    def next(self) -> UUID:
        """Return the id of a further claim."""
        self.count += 1
        return UUID(int=self.count)


class OfService:
    """A study of the whole service, without HTTP: claims, reports, releases and outcomes as workers send them.

    Args:
        database: A migrated database of the study's own.
        folder: The folder of the artifacts.
        task: The task.
        search: The `search` of the study document, as JSON would hold it.
        workers: The number of workers.
        seed: The seed of the study.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        task: Task,
        search: Mapping[str, Any],
        *,
        workers: int,
        seed: int,
    ) -> None:
        def read(study_id: int, cursor: Cursor | None) -> Changes:
            with database.statements() as connection:
                return history.changes(connection, study_id, cursor)

        sampling = Sampling(read, minutes().__next__)
        self._service = Service(
            Context(database, sampling, Folder(folder)),
            Clock(database),  # which stands still, so that no lease expires
        )
        studies.create(self._service.context, document(task, search, seed), None)
        self._workers = [a_worker(self._service.context) for _ in range(workers)]
        self._validation = task.validation
        self._claims = Claims()
        self._leases: dict[int, Lease] = {}
        self._epochs: dict[int, int] = {}
        self._kept: dict[int, int] = {}

    @property
    def points(self) -> list[Point]:
        """What was tried, in the order of the trials' numbers."""
        return [lease.hyperparameters for _, lease in sorted(self._leases.items())]

    def claim(self, worker: int) -> Job | None:
        got = self._service.claim(self._workers[worker], claim_id=self._claims.next())
        if not got:
            return None
        (lease,) = got
        number = lease.trial_number
        begun = 0 if lease.resume is None else lease.resume.step + 1
        assert begun == self._epochs.get(number, 0), "an epoch would be trained twice"
        if number not in self._leases:
            # A worker says this before its first epoch: a study whose data nobody knows has one trial at a time.
            pictures = {"train": 4 * self._validation, "validation": self._validation}
            self._service.begin(lease, pictures={**pictures, "test": self._validation})
        self._leases[number] = lease
        return Job(number, lease.hyperparameters)

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        self._epochs[number] = epoch
        verdict = self._service.report(self._leases[number], value, step=epoch - 1)
        assert verdict in ("continue", "stop", "pause"), verdict
        return verdict

    def complete(self, number: int, value: float) -> None:
        self._service.complete(self._leases[number], value)

    def stop(self, number: int) -> None:
        self._service.prune(self._leases[number])

    def pause(self, number: int) -> None:
        lease = self._leases[number]
        self._service.checkpoint(lease, self._epochs[number] - 1)
        self._service.give_back_paused(lease)

    def fail(self, number: int) -> None:
        self._service.fail(self._leases[number], "diverged")


@dataclass(frozen=True)
class Tried:
    """A trial that has had all its epochs, and its value."""

    point: Point
    value: float


class OfRoom:
    """A study of the sampling room alone.

    Args:
        task: The task.
        search: The `search` of the study document, as JSON would hold it.
        seed: The seed of the study.
        earlier: The studies whose best configurations it begins with, once its first trial has begun.
    """

    def __init__(
        self,
        task: Task,
        search: Mapping[str, Any],
        *,
        seed: int,
        earlier: Sequence[Earlier] = (),
    ) -> None:
        self._ledger = Ledger()
        rows = task.validation

        def read(study_id: int, cursor: Cursor | None) -> Changes:
            return replace(self._ledger.read(study_id, cursor), validation_rows=rows)

        self._sampling = Sampling(read, minutes().__next__)
        self._document = as_stored(document(task, search, seed))
        if earlier:
            data = StudyData(data_sha256="0" * 64, pictures={})
            self._document = with_transferred(self._document, data, earlier, 1)
        self._claims = Claims()
        self._trials: list[TrialFacts] = []
        self._holders: dict[int, int] = {}

    @property
    def points(self) -> list[Point]:
        """What was tried, in the order of the trials' numbers."""
        return [trial.hyperparameters for trial in self._trials]

    @property
    def completed(self) -> list[Tried]:
        """The trials that had all their epochs."""
        return [
            Tried(one.hyperparameters, one.value)
            for one in self._trials
            if one.value is not None
        ]

    def claim(self, worker: int) -> Job | None:
        number, claim = len(self._trials), self._claims.next()
        alone = all(holder == worker for holder in self._holders.values())
        with self._sampling.next(
            1,
            self._document,
            claim_id=None if alone else f"{claim}/0",
            next_number=number,
            may_begin=True,
        ) as chosen:
            trial = self._taken(chosen, number)
        if trial is None:
            return None
        self._holders[trial.number] = worker
        return Job(trial.number, trial.hyperparameters)

    def _taken(self, chosen: Next, number: int) -> TrialFacts | None:
        match chosen:
            case Proposal(values=values, runs_until=runs_until):
                trial = TrialFacts(number, "running", values, runs_until=runs_until)
                self._trials.append(trial)
            case Resumption(number=paused, runs_until=runs_until):
                trial = replace(
                    self._trials[paused],
                    state="running",
                    runs_until=runs_until,
                    paused_by_search=False,
                )
            case _:
                return None
        self._change(trial)
        return trial

    def report(self, number: int, epoch: int, value: float) -> Verdict:
        trial = self._trials[number]
        trial = replace(trial, curve=(*trial.curve, (epoch - 1, value)))
        if self._is_due(trial, epoch, value):
            decision = self._sampling.decide(
                1,
                self._document,
                number,
                trial.curve,
                may_begin=True,
                next_number=len(self._trials),
            )
            self._change(replace(trial, runs_until=decision.runs_until))
            return decision.verdict
        judgement = self._sampling.prune(1, self._document, number, trial.curve)
        self._change(trial)
        return "stop" if judgement.stop else "continue"

    def _is_due(self, trial: TrialFacts, epoch: int, value: float) -> bool:
        return decisions.is_due(
            epoch - 1,
            value,
            trial.runs_until,
            schedules=self._document.search.schedules,
            decides_here=decides_at(self._document, epoch),
        )

    def complete(self, number: int, value: float) -> None:
        self._leave(replace(self._trials[number], state="completed", value=value))

    def stop(self, number: int) -> None:
        self._leave(replace(self._trials[number], state="pruned"))

    def pause(self, number: int) -> None:
        self._leave(replace(self._trials[number], state="paused", paused_by_search=True))

    def fail(self, number: int) -> None:
        diverged = replace(self._trials[number], state="failed", error_kind="diverged")
        self._leave(diverged)

    def _leave(self, trial: TrialFacts) -> None:
        self._change(trial)
        del self._holders[trial.number]

    def _change(self, trial: TrialFacts) -> None:
        self._trials[trial.number] = trial
        self._ledger.commit(trial)
