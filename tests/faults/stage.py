"""What a fault is given: the processes, whoever speaks for people, and luck."""

import random
import time
from dataclasses import dataclass

from tests.faults.cluster import Cluster, Worker, until
from tests.faults.log import Log
from trimtab.client import Client

HOLDS_WITHIN_S = 4.0
PASSES_ON_WITHIN_S = 20.0


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
                """SELECT count(*) FROM trimtab.attempts a JOIN trimtab.trials t USING (trial_id, kind, seed_index)
                   WHERE a.lease_id = %(lease)s AND a.ended_at IS NOT NULL
                     AND (NOT %(to_another)s OR t.fence > a.fence OR t.ended_at IS NOT NULL)""",
                lease=lease,
                to_another=to_another,
            )
        )

    def until_passed_on(self, worker: Worker) -> None:
        """Wait until the lease that it holds has ended, and mostly until another has its trial."""
        lease = self.lease_of(worker)
        to_another = self.chance.random() < 0.7
        if lease is not None:
            until(lambda: self.passed_on(lease, to_another), PASSES_ON_WITHIN_S, every_s=0.2)

    def study(self, *states: str) -> str | None:
        """Pick a study in one of these states."""
        rows = self.cluster.rows(
            "SELECT name FROM trimtab.studies WHERE state = ANY(%(states)s) ORDER BY name",
            states=list(states),
        )
        return self.chance.choice(rows)["name"] if rows else None
