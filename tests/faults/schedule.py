"""A seeded schedule of faults.

How long a fault lasts is told by what it should cause (a lease that passed on, a server that is back) and by a limit, not by
the clock alone: on a slow machine the same schedule does the same things, later.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.faults import network_faults, people_faults, process_faults
from tests.faults.cluster import Cluster, chances, until
from tests.faults.log import Log, Window
from tests.faults.stage import Stage
from trimtab.client import Client

Touches = Literal["workers", "replicas", "postgres", "network", "links", "clients", "studies"]

SETTLED_BETWEEN = 4
"""So many attempts end between two rounds of faults, or `CALM_S` seconds pass."""
CALM_S = 4.0


@dataclass(frozen=True)
class Fault:
    """One kind of fault; two that touch the same are not done at once."""

    touches: Touches
    act: Callable[[Stage], str]
    weight: float = 1.0


FAULTS: Mapping[str, Fault] = {
    fault.act.__name__: fault
    for fault in (
        Fault("workers", process_faults.kill_worker, 2),
        Fault("workers", process_faults.terminate_worker, 1.5),
        Fault("workers", process_faults.pause_worker, 3),
        Fault("workers", process_faults.kill_runner),
        Fault("replicas", process_faults.kill_replica, 1.5),
        Fault("replicas", process_faults.kill_every_replica, 0.5),
        Fault("replicas", process_faults.terminate_replica),
        Fault("replicas", process_faults.pause_replica),
        Fault("postgres", process_faults.restart_postgres, 1.5),
        Fault("postgres", process_faults.stop_postgres),
        Fault("network", network_faults.cut_connections),
        Fault("network", network_faults.refuse_connections),
        Fault("network", network_faults.delay),
        Fault("network", network_faults.send_twice, 2),
        Fault("network", network_faults.lose_answers, 1.5),
        Fault("network", network_faults.partition_briefly),
        Fault("network", network_faults.partition_worker, 2),
        Fault("network", network_faults.partition_everyone),
        Fault("links", network_faults.cut_database),
        Fault("links", network_faults.hang_database),
        Fault("links", network_faults.lose_commits),
        Fault("clients", network_faults.replay_late, 3),
        Fault("studies", people_faults.pause_study, 1.5),
        Fault("studies", people_faults.edit_space, 1.5),
        Fault("studies", people_faults.stop_study, 0.3),
        Fault("studies", people_faults.cancel_study, 0.3),
        Fault("studies", people_faults.delete_study, 0.3),
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
