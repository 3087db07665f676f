"""The faults, and a seeded schedule of them.

How long a fault lasts is told by what it should cause (a lease that passed on, a server that is back) and by a limit, not by
the clock alone: on a slow machine the same schedule does the same things, later.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2

from tests.faults import log
from tests.faults.cluster import TOKEN, Cluster, Worker, chances, until
from tests.faults.log import Log, Op, Window
from trimtab.client import Client
from trimtab.contract import problems

Touches = Literal["workers", "replicas", "postgres", "network", "links", "clients", "studies"]

HOLDS_WITHIN_S = 4.0
PASSES_ON_WITHIN_S = 20.0
REPLAYS = 40
LOOKS_FOR_PREDECESSORS = 20
REPLAYS_OF_ONE = 5
SETTLED_BETWEEN = 4
"""So many attempts end between two rounds of faults, or `CALM_S` seconds pass."""
CALM_S = 4.0


@dataclass
class Stage:
    """What one fault is given."""

    cluster: Cluster
    chance: random.Random
    operator: Client
    ghost: Log

    def worker(self, holding: bool = True) -> Worker:
        """Pick a worker; wait until it holds a lease."""
        picked = self.chance.choice(self.cluster.workers)
        if holding:
            until(lambda: self.lease_of(picked), HOLDS_WITHIN_S)
            time.sleep(self.chance.uniform(0, 0.3))
        return picked

    def lease_of(self, worker: Worker) -> str | None:
        """The lease that this worker holds."""
        rows = self.cluster.rows(
            """SELECT t.lease_id FROM trimtab.trials t JOIN trimtab.workers w USING (worker_id)
               WHERE w.label = %(label)s AND t.state = 'running' LIMIT 1""",
            label=worker.member.name,
        )
        return str(rows[0]["lease_id"]) if rows else None

    def passed_on(self, lease: str, to_another: bool) -> bool:
        """Whether the lease has ended, and (if asked) its trial has begun again or is over."""
        return bool(
            self.cluster.value(
                """SELECT count(*) FROM trimtab.attempts a JOIN trimtab.trials t USING (trial_id, kind)
                   WHERE a.lease_id = %(lease)s AND a.ended_at IS NOT NULL
                     AND (NOT %(to_another)s OR t.fence > a.fence OR t.ended_at IS NOT NULL)""",
                lease=lease,
                to_another=to_another,
            )
        )

    def study(self, *states: str) -> str | None:
        """Pick a study in one of these states."""
        rows = self.cluster.rows(
            "SELECT name FROM trimtab.studies WHERE state = ANY(%(states)s) ORDER BY name",
            states=list(states),
        )
        return self.chance.choice(rows)["name"] if rows else None


# Workers


def kill_worker(stage: Stage) -> str:
    worker = stage.worker()
    worker.member.kill()
    worker.member.start()
    return worker.member.name


def terminate_worker(stage: Stage) -> str:
    worker = stage.worker()
    worker.member.leave()
    worker.member.start()
    return worker.member.name


def pause_worker(stage: Stage) -> str:
    """Beyond its lease: what it says when it wakes comes from the past."""
    worker = stage.worker()
    worker.member.kill(signal.SIGSTOP)
    _until_passed_on(stage, worker)
    worker.member.kill(signal.SIGCONT)
    return worker.member.name


def kill_runner(stage: Stage) -> str:
    worker = stage.worker()
    for pid in worker.runner_pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return worker.member.name


def _until_passed_on(stage: Stage, worker: Worker) -> None:
    lease = stage.lease_of(worker)
    to_another = stage.chance.random() < 0.7
    if lease is not None:
        until(lambda: stage.passed_on(lease, to_another), PASSES_ON_WITHIN_S, every_s=0.2)


# Replicas


def kill_replica(stage: Stage) -> str:
    replica = stage.chance.choice(stage.cluster.replicas)
    replica.kill()
    time.sleep(stage.chance.uniform(0, 2))
    replica.start()
    return replica.name


def kill_every_replica(stage: Stage) -> str:
    for replica in stage.cluster.replicas:
        replica.kill()
    for replica in stage.cluster.replicas:
        replica.start()
    return "all"


def terminate_replica(stage: Stage) -> str:
    replica = stage.chance.choice(stage.cluster.replicas)
    replica.leave()
    replica.start()
    return replica.name


def pause_replica(stage: Stage) -> str:
    """It may hold row locks meanwhile."""
    replica = stage.chance.choice(stage.cluster.replicas)
    replica.kill(signal.SIGSTOP)
    time.sleep(stage.chance.uniform(0.5, 4))
    replica.kill(signal.SIGCONT)
    return replica.name


# Postgres


def restart_postgres(stage: Stage) -> str:
    """An immediate shutdown; its keeper starts it again."""
    with stage.cluster.postgres_guard:
        _end_postgres(stage, signal.SIGQUIT)
        stage.cluster.value("SELECT 1")
    return "postgres"


def stop_postgres(stage: Stage) -> str:
    """Down for seconds: its keeper is stopped meanwhile."""
    cluster = stage.cluster
    with cluster.postgres_guard:
        os.kill(cluster.postgres.keeper_pid, signal.SIGSTOP)
        _end_postgres(stage, stage.chance.choice((signal.SIGINT, signal.SIGQUIT)))
        time.sleep(stage.chance.uniform(2, 6))
        os.kill(cluster.postgres.keeper_pid, signal.SIGCONT)
        cluster.value("SELECT 1")
    return "postgres"


def _end_postgres(stage: Stage, number: signal.Signals) -> None:
    pid = stage.cluster.postmaster()
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    until(lambda: _has_ended(pid), 20)


def _has_ended(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


# The network between workers and replicas


def cut_connections(stage: Stage) -> str:
    for _ in range(5):
        for worker in stage.cluster.workers:
            worker.proxy.cut()
        time.sleep(stage.chance.uniform(0, 0.3))
    return "all"


def refuse_connections(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.refusing = True
        worker.proxy.cut()
    time.sleep(stage.chance.uniform(0.3, 1.5))
    return _healed(stage)


def delay(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.delay_s = 0.4
    time.sleep(3)
    return _healed(stage)


def send_twice(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.twice = 0.5
    time.sleep(4)
    return _healed(stage)


def lose_answers(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.losing = 0.25
    time.sleep(3)
    return _healed(stage)


def partition_briefly(stage: Stage) -> str:
    """Shorter than the lease."""
    worker = stage.worker()
    worker.proxy.black_hole = True
    time.sleep(stage.chance.uniform(0.3, 1.0))
    worker.proxy.heal()
    return worker.member.name


def partition_worker(stage: Stage) -> str:
    """Longer than the lease; what it sent meanwhile arrives when this ends."""
    worker = stage.worker()
    worker.proxy.black_hole = True
    _until_passed_on(stage, worker)
    worker.proxy.heal()
    return worker.member.name


def partition_everyone(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.black_hole = True
    time.sleep(stage.chance.uniform(2, 4))
    return _healed(stage)


def _healed(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.heal()
    return "all"


# The network between replicas and Postgres


def cut_database(stage: Stage) -> str:
    for _ in range(3):
        stage.chance.choice(stage.cluster.database_links).cut()
        time.sleep(stage.chance.uniform(0, 0.4))
    return "link"


def hang_database(stage: Stage) -> str:
    """It accepts, and never answers."""
    link = stage.chance.choice(stage.cluster.database_links)
    link.black_hole = True
    time.sleep(stage.chance.uniform(1, 8))
    link.heal()
    return "link"


def lose_commits(stage: Stage) -> str:
    """The answer of a COMMIT is lost, among others."""
    for link in stage.cluster.database_links:
        link.losing = 0.03
    time.sleep(3)
    for link in stage.cluster.database_links:
        link.heal()
    return "links"


# Clients that say old things again


def replay_late(stage: Stage) -> str:
    """Requests of the past, to any replica, by whoever kept them."""
    kept = [op for op in log.read(stage.cluster.journals) if _is_worth_repeating(op)]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(headers=headers, timeout=15, trust_env=False) as http:
        for op in stage.chance.sample(kept, min(REPLAYS, len(kept))):
            _replay(stage, http, op)
        for _ in range(LOOKS_FOR_PREDECESSORS):
            _replay_predecessors(stage, http, kept)
            time.sleep(0.1)
    return "all"


def _is_worth_repeating(op: Op) -> bool:
    if op.verb == "claim":
        return op.ending == "ok" and bool(op.answer)
    return op.lease is not None


def _replay_predecessors(stage: Stage, http: httpx2.Client, kept: Sequence[Op]) -> None:
    """What was said of trials by those who held them before those who hold them now."""
    rows = stage.cluster.rows(
        """SELECT a.lease_id FROM trimtab.attempts a JOIN trimtab.trials t USING (trial_id, kind)
           WHERE t.state = 'running' AND t.lease_id <> a.lease_id"""
    )
    leases = {str(row["lease_id"]) for row in rows}
    for op in [op for op in kept if op.lease in leases][-REPLAYS_OF_ONE:]:
        _replay(stage, http, op)


def _replay(stage: Stage, http: httpx2.Client, op: Op) -> None:
    ports = stage.cluster.service_ports()
    if not ports:
        return
    noted = stage.ghost.invoke(op.method, op.path, op.body)
    address = f"http://127.0.0.1:{stage.chance.choice(ports)}{op.path}"
    try:
        response = http.request(op.method, address, json=op.body)
        answer = response.json() if "json" in response.headers.get("content-type", "") else None
        stage.ghost.answered(noted, response.status_code, answer)
    except (httpx2.TransportError, ValueError) as error:
        stage.ghost.unanswered(noted, type(error).__name__)


# People


def pause_study(stage: Stage) -> str:
    name = stage.study("active")
    if name is not None and _changed(lambda: stage.operator.pause(name)):
        time.sleep(stage.chance.uniform(0.2, 2))
        _changed(lambda: stage.operator.resume(name))
    return name or "none"


def stop_study(stage: Stage) -> str:
    name = stage.study("active")
    if name is not None:
        _changed(lambda: stage.operator.stop(name))
    return name or "none"


def cancel_study(stage: Stage) -> str:
    name = stage.study("active", "finalising")
    if name is not None:
        _changed(lambda: stage.operator.cancel(name))
    return name or "none"


def delete_study(stage: Stage) -> str:
    """Cancel, and delete as soon as nothing runs; refused while something does."""
    name = stage.study("active")
    if name is not None and _changed(lambda: stage.operator.cancel(name)):
        until(lambda: _changed(lambda: stage.operator.delete(name)), 10, every_s=0.2)
    return name or "none"


def _changed(change: Callable[[], Any]) -> bool:
    try:
        change()
    except (problems.Conflict, problems.NotFound, problems.Unavailable):
        return False
    return True


@dataclass(frozen=True)
class Fault:
    """One kind of fault; two that touch the same are not done at once."""

    touches: Touches
    act: Callable[[Stage], str]
    weight: float = 1.0


FAULTS: Mapping[str, Fault] = {
    fault.act.__name__: fault
    for fault in (
        Fault("workers", kill_worker, 2),
        Fault("workers", terminate_worker, 1.5),
        Fault("workers", pause_worker, 3),
        Fault("workers", kill_runner),
        Fault("replicas", kill_replica, 1.5),
        Fault("replicas", kill_every_replica, 0.5),
        Fault("replicas", terminate_replica),
        Fault("replicas", pause_replica),
        Fault("postgres", restart_postgres, 1.5),
        Fault("postgres", stop_postgres),
        Fault("network", cut_connections),
        Fault("network", refuse_connections),
        Fault("network", delay),
        Fault("network", send_twice, 2),
        Fault("network", lose_answers, 1.5),
        Fault("network", partition_briefly),
        Fault("network", partition_worker, 2),
        Fault("network", partition_everyone),
        Fault("links", cut_database),
        Fault("links", hang_database),
        Fault("links", lose_commits),
        Fault("clients", replay_late, 3),
        Fault("studies", pause_study, 1.5),
        Fault("studies", stop_study, 0.3),
        Fault("studies", cancel_study, 0.3),
        Fault("studies", delete_study, 0.3),
    )
}


@dataclass
class Schedule:
    """Rounds of one or two faults at a time, chosen by the seed."""

    cluster: Cluster
    operator: Client
    seed: int
    kinds: Sequence[str]
    windows: list[Window]
    """Where each fault is noted when it is over."""

    def __post_init__(self) -> None:
        self._chance = chances(self.seed, "schedule")
        self._ghost = Log(self.cluster.journals / "ghost.jsonl", "ghost")
        self.rounds = 0
        self._errors: list[BaseException] = []

    def round(self) -> None:
        """Do the next faults, wait until they are over, and let the workers get on."""
        chosen = self._choose()
        threads = [
            threading.Thread(target=self._do, args=(kind,), name=kind) for kind in chosen
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        self.rounds += 1
        for worker in self.cluster.workers:
            # One that was put in quarantine has left; a new process is a new worker.
            worker.member.start()
        settled = self._settled()
        until(lambda: self._settled() >= settled + SETTLED_BETWEEN, CALM_S, every_s=0.2)

    def _choose(self) -> list[str]:
        weights = [FAULTS[kind].weight for kind in self.kinds]
        first, second = self._chance.choices(self.kinds, weights, k=2)
        alone = FAULTS[first].touches == FAULTS[second].touches or self._chance.random() < 0.4
        return [first] if alone else [first, second]

    def _do(self, kind: str) -> None:
        chance = chances(self.seed, f"{self.rounds}/{kind}")
        stage = Stage(self.cluster, chance, self.operator, self._ghost)
        began = time.time()
        try:
            target = FAULTS[kind].act(stage)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._errors.append(error)
        else:
            self.windows.append(Window(kind, target, began, time.time()))

    def _settled(self) -> int:
        sql = "SELECT count(*) FROM trimtab.attempts WHERE ended_at IS NOT NULL"
        return int(self.cluster.value(sql))
