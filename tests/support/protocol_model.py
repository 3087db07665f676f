"""The lease protocol in plain Python: what the service ought to answer and to have stored.

Written from the specification, not from the service: one process, no database, nothing concurrent.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from uuid import UUID

TERMINAL = ("completed", "pruned", "failed", "cancelled")


class Refused(Exception):
    """The name of the problem that the service ought to raise."""


@dataclass(eq=False)
class StudyModel:
    """One study, its trials, its refits and its final lease; the budget is that of the search alone."""

    study_id: int
    name: str
    limit: int
    wall_time_s: float | None
    max_crashes: int
    refits_wanted: int
    """Trials that are refitted, each with `seeds` seeds."""
    age: int
    seeds: int = 1
    active_since: float | None = None
    state: str = "active"
    active_s: float = 0.0
    has_problem: bool = False
    trials: "list[TrialModel]" = field(default_factory=list["TrialModel"])
    refits: "list[TrialModel]" = field(default_factory=list["TrialModel"])
    final: "TrialModel | None" = None

    def everything(self) -> "list[TrialModel]":
        return [*self.trials, *self.refits, *([self.final] if self.final else [])]

    def best_first(self) -> "list[TrialModel]":
        completed = [trial for trial in self.trials if trial.value is not None]
        return sorted(completed, key=TrialModel.rank)

    @property
    def final_failed(self) -> bool:
        return self.final is not None and self.final.state in ("failed", "cancelled")

    @property
    def refits_over(self) -> bool:
        return all(refit.state in TERMINAL for refit in self.refits)

    def wall_time_over(self, now: float) -> bool:
        running = 0.0 if self.active_since is None else now - self.active_since
        return self.wall_time_s is not None and self.active_s + running >= self.wall_time_s

    def may_propose(self, now: float) -> bool:
        return (
            self.state == "active"
            and len(self.trials) < self.limit
            and not self.wall_time_over(now)
        )

    def become(self, state: str, now: float) -> None:
        if self.active_since is not None:
            self.active_s += now - self.active_since
        runs = any(trial.state == "running" for trial in self.trials)
        self.state, self.active_since = state, now if state == "active" and runs else None


@dataclass(eq=False)
class TrialModel:
    """One trial, a refit, or a final lease, with all of its attempts."""

    study: StudyModel
    number: int
    kind: str
    not_before: float
    state: str = "queued"
    fence: int = 0
    crashes: int = 0
    lease: "LeaseModel | None" = None
    checkpoint: tuple[int, int] | None = None
    """(fence, step)"""
    best_checkpoint: int | None = None
    curve: dict[int, float | None] = field(default_factory=dict[int, "float | None"])
    value: float | None = None
    error: str | None = None
    seed_index: int = 0

    def resume(self) -> int | None:
        return None if self.checkpoint is None else self.checkpoint[1]

    def validated(self) -> int | None:
        return self.resume() if self.best_checkpoint is None else self.best_checkpoint

    def turn(self) -> tuple[float, int, int]:
        """The lowest is claimed first: the longest waiting, and the first seeds before the further ones."""
        return self.not_before, self.seed_index, self.number

    def rank(self) -> tuple[float, float, str]:
        """The lowest is the best: by value, then by the mean of the later half of the curve, then by lot."""
        points = [value for _, value in sorted(self.curve.items())]
        late = [value for value in points[len(points) // 2 :] if value is not None]
        lot = hashlib.md5(f"{self.study.study_id}/{self.number}".encode()).hexdigest()
        return -(self.value or 0.0), -mean(late) if late else 1.0, lot


@dataclass(eq=False)
class LeaseModel:
    """One attempt: live or long ended."""

    trial: TrialModel
    worker: "WorkerModel"
    fence: int
    until: float
    reports: dict[int, tuple[float | None, str]] = field(
        default_factory=dict[int, "tuple[float | None, str]"]
    )
    ended: str | None = None
    settled: tuple[object, str] | None = None
    """The outcome that settled it, and what the trial became."""

    @property
    def live(self) -> bool:
        return self.trial.lease is self


@dataclass(eq=False)
class WorkerModel:
    """A worker and what each of its claims got."""

    capacity: int
    has_crashed: bool = False
    claims: dict[UUID, list[LeaseModel]] = field(default_factory=dict[UUID, "list[LeaseModel]"])


@dataclass
class Model:
    """All studies; every verb of the service as a method that answers, or raises `Refused`."""

    ttl: float
    now: float = 0.0
    studies: dict[str, StudyModel] = field(default_factory=dict[str, StudyModel])
    created: int = 0

    def create(
        self,
        study_id: int,
        name: str,
        limit: int,
        wall_time_s: float | None,
        crashes: int,
        refits: int = 0,
        seeds: int = 1,
    ) -> None:
        self.studies[name] = StudyModel(
            study_id, name, limit, wall_time_s, crashes, refits, self.created, seeds
        )
        self.created += 1

    def running_of(self, worker: WorkerModel) -> int:
        return sum(lease.live for leases in worker.claims.values() for lease in leases)

    def claim(
        self, worker: WorkerModel, claim: UUID, capacity: int, beside: str | None
    ) -> Sequence[LeaseModel]:
        got = self._remembered(worker, claim)
        if not got and self.running_of(worker) >= worker.capacity:
            raise Refused("WorkerBusy")
        if len(got) >= capacity and not any(lease.live for lease in got):
            raise Refused("LeaseLost")
        while len(got) < capacity and self.running_of(worker) < worker.capacity:
            trial = self.next_trial(beside, worker)
            if trial is None:
                break
            got.append(self._lease(trial, worker))
        return [lease for lease in got if lease.live]

    def _remembered(self, worker: WorkerModel, claim: UUID) -> list[LeaseModel]:
        """What the claim has got; a deleted study takes the memory of its leases along."""
        got = worker.claims.setdefault(claim, [])
        while got and got[-1].trial.study not in self.studies.values():
            got.pop()
        return got

    def next_trial(self, beside: str | None, worker: WorkerModel) -> TrialModel | None:
        """The queued or new trial that the next claim is due; beside a study, if it is one of that study's trials."""
        own = None if beside is None else worker
        for study in sorted(self.studies.values(), key=lambda study: self._turn(study, own)):
            ready = [trial for trial in study.everything() if self._is_ready(trial)]
            if not ready and not study.may_propose(self.now):
                continue
            if beside not in (None, study.name):
                return None
            if ready:
                first = min(ready, key=TrialModel.turn)
                return first if beside is None or first.kind == "trial" else None
            study.trials.append(TrialModel(study, len(study.trials), "trial", self.now))
            return study.trials[-1]
        return None

    def _turn(self, study: StudyModel, own: WorkerModel | None) -> tuple[int, int]:
        """Trials of the worker that claims beside them do not count."""
        running = [trial for trial in study.everything() if trial.state == "running"]
        return sum(
            trial.lease is None or trial.lease.worker is not own for trial in running
        ), study.age

    def _is_ready(self, trial: TrialModel) -> bool:
        study = trial.study
        return (
            trial.state == "queued"
            and trial.not_before <= self.now
            and study.state in ("active", "stopping", "finalising")
            and (trial.kind != "trial" or not study.wall_time_over(self.now))
        )

    def _lease(self, trial: TrialModel, worker: WorkerModel) -> LeaseModel:
        trial.state, trial.fence = "running", trial.fence + 1
        if trial.study.state == "active" and trial.study.active_since is None:
            trial.study.active_since = self.now
        trial.lease = LeaseModel(trial, worker, trial.fence, self.now + self.ttl)
        return trial.lease

    def report(self, lease: LeaseModel, step: int, values: Sequence[float | None]) -> str:
        self._check(lease)
        if lease.trial.kind != "trial":
            raise Refused("Conflict")
        batch = dict(enumerate(values, step))
        if any(lease.reports.get(one, (value,))[0] != value for one, value in batch.items()):
            raise Refused("StepConflict")
        lease.until = max(lease.until, self.now + self.ttl)
        last = max(batch)
        known = lease.reports.get(last)
        verdict = known[1] if known else self.verdict(lease.trial)
        for one in [one for one in batch if one not in lease.reports]:
            lease.reports[one] = (batch[one], verdict)
            lease.trial.curve[one] = batch[one]
        return verdict

    def verdict(self, trial: TrialModel) -> str:
        if trial.study.state == "cancelled":
            return "cancel"
        if self._unwanted(trial):
            return "finish"
        return "pause" if trial.study.state == "paused" else "continue"

    def _unwanted(self, trial: TrialModel) -> bool:
        over = trial.kind == "trial" and trial.study.wall_time_over(self.now)
        return over or trial.study.state == "cancelled"

    def heartbeat(self, lease: LeaseModel) -> str:
        self._check(lease)
        lease.until = max(lease.until, self.now + self.ttl)
        return self.verdict(lease.trial)

    def checkpoint(self, lease: LeaseModel, step: int, best: int | None) -> None:
        self._check(lease)
        trial = lease.trial
        if trial.kind == "final":
            raise Refused("Conflict")
        if (
            trial.checkpoint
            and trial.checkpoint[0] == lease.fence
            and trial.checkpoint[1] > step
        ):
            raise Refused("CheckpointGoesBack")
        trial.checkpoint = (lease.fence, step)
        trial.best_checkpoint = trial.best_checkpoint if best is None else best

    def settle(self, lease: LeaseModel, outcome: tuple[str, object, bool]) -> str:
        """`outcome` is (completed, value, -), (pruned, -, -) or (failed, error kind, retryable)."""
        if lease.settled is not None:
            if lease.settled[0] != outcome:
                raise Refused("ResultConflict")
            return lease.settled[1]
        self._check(lease)
        kind, what, retryable = outcome
        if kind == "pruned" and lease.trial.kind != "trial":
            raise Refused("Invalid")
        if kind == "failed" and what == "cancelled":
            self._leave(lease, "cancelled", "cancelled", error="cancelled")
        elif kind == "failed" and retryable and not self._is_told_for_good(lease.trial, what):
            self._crash(lease, "failed", str(what))
        elif kind == "failed":
            self._leave(lease, "failed", "failed", error=str(what))
        else:
            self._leave(lease, kind, kind)
            if kind == "completed":
                lease.trial.value = float(str(what))
        lease.settled = (outcome, lease.trial.state)
        study = lease.trial.study
        if (lease.trial.kind, kind, study.state) == ("final", "completed", "finalising"):
            study.become("done", self.now)
        self.follow(study)
        return lease.settled[1]

    def _is_told_for_good(self, trial: TrialModel, what: object) -> bool:
        last = trial.crashes + 1 >= trial.study.max_crashes
        return what == "oom" and last and not self._unwanted(trial)

    def release(self, lease: LeaseModel, reason: str) -> None:
        ended = "drained" if reason == "drain" else "paused"
        if lease.ended == ended:
            return
        self._check(lease)
        trial, study = lease.trial, lease.trial.study
        if self._unwanted(trial):
            self._leave(lease, "cancelled", ended, error="cancelled")
        elif (reason, study.state, trial.kind) == ("paused", "paused", "trial"):
            self._leave(lease, "paused", ended)
        else:
            self._leave(lease, "queued", ended)
        self.follow(study)

    def sweep(self) -> int:
        expired = [
            trial.lease
            for study in self.studies.values()
            for trial in study.everything()
            if trial.lease is not None and trial.lease.until < self.now
        ]
        for lease in expired:
            self._crash(lease, "expired", "killed")
        for study in self.studies.values():
            self.follow(study)
        return len(expired)

    def _check(self, lease: LeaseModel) -> None:
        if not lease.live:
            raise Refused("LeaseLost")

    def _crash(self, lease: LeaseModel, ended: str, error: str) -> None:
        trial = lease.trial
        lease.worker.has_crashed = True
        before, trial.crashes = trial.crashes, trial.crashes + 1
        if self._unwanted(trial):
            self._leave(lease, "cancelled", ended, error="cancelled")
        elif trial.crashes >= trial.study.max_crashes:
            self._leave(lease, "failed", ended, error="poison")
        else:
            self._leave(lease, "queued", ended, error=error)
            trial.not_before = self.now + 5 * 2**before

    def _leave(
        self, lease: LeaseModel, state: str, ended: str, *, error: str | None = None
    ) -> None:
        trial = lease.trial
        trial.state, trial.error, trial.lease, lease.ended = state, error, None, ended
        trial.not_before = self.now

    def change(self, name: str, state: str) -> None:
        """Pause, resume (active), stop (stopping) or cancel a study."""
        study = self.studies[name]
        legal = {
            "paused": ("active",),
            "active": ("paused",),
            "stopping": ("active", "paused"),
            "cancelled": ("active", "paused", "stopping", "finalising"),
        }
        if study.state != state:
            if study.state not in legal[state]:
                raise Refused("StudyNotActive")
            study.become(state, self.now)
            if state == "cancelled":
                self._cancel_waiting(study)
            elif state != "paused":
                self._queue_paused(study)
        self.follow(study)

    def delete(self, name: str) -> None:
        if any(trial.state == "running" for trial in self.studies[name].everything()):
            raise Refused("StudyNotIdle")
        del self.studies[name]

    def _cancel_waiting(self, study: StudyModel) -> None:
        for trial in study.everything():
            if trial.state in ("queued", "paused"):
                trial.state, trial.error, trial.not_before = "cancelled", "cancelled", self.now

    def _queue_paused(self, study: StudyModel) -> None:
        for trial in study.trials:
            if trial.state == "paused":
                trial.state, trial.not_before = "queued", self.now

    def follow(self, study: StudyModel) -> None:
        """What becomes of a study whose budget is spent, whose refits are over, or whose final lease was given up."""
        if study.state in ("active", "stopping"):
            if study.wall_time_over(self.now):
                self._cancel_waiting(study)
            over = all(trial.state in TERMINAL for trial in study.trials)
            if over and not study.may_propose(self.now):
                self._finalise(study)
        elif study.state == "finalising" and study.final_failed:
            study.become("done", self.now)
            study.has_problem = True
        elif study.state == "finalising" and study.final is None and study.refits_over:
            self._queue_final(study)

    def _finalise(self, study: StudyModel) -> None:
        completed = study.best_first()
        study.become("finalising" if completed else "done", self.now)
        study.has_problem = not completed
        study.refits = [
            TrialModel(study, trial.number, "refit", self.now, seed_index=index)
            for index in range(study.seeds)
            for trial in completed[: study.refits_wanted]
        ]
        if completed and not study.refits:
            self._queue_final(study)

    def _queue_final(self, study: StudyModel) -> None:
        best = study.best_first()[0]
        study.final = TrialModel(study, best.number, "final", self.now)
        resume = best.validated()
        study.final.checkpoint = None if resume is None else (0, resume)
