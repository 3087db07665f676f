"""The protocol as a test plays it: the use cases over a real database whose clock stands still."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, text

from service.storage.engine import Database
from service.use_cases import artifacts, claims, expiry, leases, records, studies, workers
from service.use_cases.context import Context
from tests.support.contexts import a_context, a_worker
from tests.support.documents import a_study_document
from tests.support.optuna_twin import optuna_tables
from tests.support.own_loops import an_external_document
from tests.support.records import a_record
from trimtab.contract.external_leases import ExternalLease, ExternalLeases
from trimtab.contract.final_report import FinalReport
from trimtab.contract.leases import (
    Checkpoint,
    CheckpointReport,
    Completed,
    Failed,
    Lease,
    LeaseRequest,
    Leases,
    Outcome,
    Pruned,
    Release,
    Report,
    Reports,
    Verdict,
)
from trimtab.contract.trials import FailureKind, TrialState
from trimtab.contract.workers import Registration, WorkerState

TTL_S = 60.0
A_MODEL = hashlib.sha256(b"a model").hexdigest()


AnyLease = Lease | ExternalLease
"""A worker's lease, or that of a loop of a person's own."""


class Clock:
    """Replaces the database's clock by one that moves only when told to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as connection:
            connection.execute(
                text("""
                    CREATE SCHEMA stopped;
                    CREATE TABLE stopped.clock AS SELECT timestamptz '2030-01-01 00:00:00Z' AS at;
                    CREATE OR REPLACE FUNCTION trimtab.now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
                        AS 'SELECT at FROM stopped.clock'""")
            )

    def advance(self, seconds: float) -> None:
        """Let time pass for everyone who asks this database."""
        with self._database.statements() as connection:
            connection.execute(
                text("UPDATE stopped.clock SET at = at + make_interval(secs => :seconds)"),
                {"seconds": seconds},
            )


def a_claim(
    worker: UUID, *, claim_id: UUID | None = None, capacity: int = 1, beside: str | None = None
) -> LeaseRequest:
    """A request for leases; a new claim unless `claim_id` repeats an old one."""
    return LeaseRequest(
        worker_id=worker, claim_id=claim_id or uuid4(), capacity=capacity, beside=beside
    )


def external_of(found: Leases | ExternalLeases) -> Sequence[ExternalLease]:
    """The leases of a loop; none where it got nothing."""
    assert isinstance(found, ExternalLeases) or not found.leases
    return found.leases if isinstance(found, ExternalLeases) else ()


@dataclass(frozen=True)
class Service:
    """The verbs of the service with arguments as short as tests like them."""

    context: Context
    clock: Clock

    @classmethod
    def on(cls, database: Database, folder: Path) -> "Service":
        """A service on a migrated database of the test's own."""
        return cls(a_context(database, folder), Clock(database))

    def study(self, name: str = "digits", **changes: Any) -> str:
        """Create a study and return its name; unless `probed` is false, its data is that of `a_record` already."""
        probed = changes.pop("probed", True)
        studies.create(self.context, a_study_document(name=name, **changes), None)
        if probed:
            self.rows(
                "UPDATE trimtab.studies SET data = CAST(:data AS jsonb) WHERE name = :name RETURNING 1",
                name=name,
                data=a_record().data.model_dump_json(),
            )
        return name

    def external(self, name: str = "own", **changes: Any) -> str:
        """Create an external study and return its name."""
        studies.create(self.context, an_external_document(name, **changes), None)
        return name

    def begin(self, lease: AnyLease, **changes: Any) -> None:
        """Tell what the holder of a lease has found."""
        records.store(self.context, lease.lease_id, a_record(**changes))

    def worker(self, capacity: int = 1) -> UUID:
        """Register a worker."""
        return a_worker(self.context, capacity=capacity)

    def gpu(self, memory_bytes: int, label: str = "gpu") -> UUID:
        """Register a worker with a GPU."""
        return a_worker(
            self.context, label=label, device="cuda:0 A GPU", memory_bytes=memory_bytes
        )

    def several(self, devices: int) -> UUID:
        """Register a worker with several devices."""
        return a_worker(self.context, devices=devices)

    def ask_to_leave(self, worker: UUID) -> WorkerState:
        """Drain a worker."""
        return workers.drain(self.context, worker).state

    def claim(
        self,
        worker: UUID,
        *,
        claim_id: UUID | None = None,
        capacity: int = 1,
        beside: str | None = None,
    ) -> Sequence[Lease]:
        """Claim; a new claim unless `claim_id` repeats an old one."""
        request = a_claim(worker, claim_id=claim_id, capacity=capacity, beside=beside)
        found = claims.claim(self.context, request)
        assert isinstance(found, Leases)
        return found.leases

    def own_loop(self, study: str, label: str = "loop") -> UUID:
        """Register a loop of a person's own."""
        registration = Registration(label=label, device="own loop", study=study)
        return workers.register(self.context, registration).worker_id

    def claim_external(self, worker: UUID) -> Sequence[ExternalLease]:
        """Claim as a loop of a person's own."""
        return external_of(claims.claim(self.context, a_claim(worker)))

    def lease(self, worker: UUID | None = None) -> Lease:
        """Claim exactly one lease, for a worker of its own unless one is given."""
        (lease,) = self.claim(worker or self.worker())
        return lease

    def report(self, lease: AnyLease, *values: float | None, step: int = 0) -> Verdict:
        """Report values of consecutive steps in one batch."""
        reports = tuple(Report(step=step + n, value=value) for n, value in enumerate(values))
        return leases.report(self.context, lease.lease_id, Reports(reports=reports)).verdict

    def heartbeat(self, lease: AnyLease) -> Verdict:
        """Renew the lease."""
        return leases.heartbeat(self.context, lease.lease_id).verdict

    def checkpoint(self, lease: AnyLease, step: int, *, best: int | None = None) -> None:
        """Upload and record training states."""
        leases.checkpoint(
            self.context,
            lease.lease_id,
            CheckpointReport(
                checkpoint=self.state(step), best=None if best is None else self.state(best)
            ),
        )

    def state(self, step: int) -> Checkpoint:
        """A training state whose bytes have been uploaded."""
        return Checkpoint(step=step, sha256=self.upload(str(step)), bytes=1 + step)

    def upload(self, content: str) -> str:
        """Store bytes as the route does; returns their name."""
        sha256 = hashlib.sha256(content.encode()).hexdigest()
        file = self.context.artifacts.path(sha256)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        artifacts.record(self.context, sha256, len(content))
        return sha256

    def settle(self, lease: AnyLease, outcome: Outcome) -> TrialState:
        """End the lease with an outcome."""
        return leases.settle(self.context, lease.lease_id, outcome).state

    def complete(self, lease: AnyLease, value: float) -> TrialState:
        """Complete a trial."""
        return self.settle(lease, Completed(value=value))

    def complete_final(
        self, lease: AnyLease, value: float = 0.9, report: FinalReport | None = None
    ) -> TrialState:
        """Complete a final lease with its scores and a model."""
        self.upload("a model")
        metrics = {"test_accuracy_before": 0.1, "test_count": 360.0}
        outcome = Completed(value=value, metrics=metrics, model_sha256=A_MODEL, report=report)
        return self.settle(lease, outcome)

    def prune(self, lease: AnyLease) -> TrialState:
        """Prune a trial."""
        return self.settle(lease, Pruned())

    def fail(
        self, lease: AnyLease, error: FailureKind = "crashed", *, retryable: bool = False
    ) -> TrialState:
        """Fail a trial."""
        return self.settle(lease, Failed(error=error, message="It fell.", retryable=retryable))

    def drain(self, lease: AnyLease) -> None:
        """Give the lease back, as a worker does that must leave."""
        leases.release(self.context, lease.lease_id, Release(reason="drain"))

    def give_back_paused(self, lease: AnyLease) -> None:
        """Give the lease back, as a worker does that was told to pause."""
        leases.release(self.context, lease.lease_id, Release(reason="paused"))

    def expire(self) -> int:
        """Let every lease run out, and sweep."""
        self.clock.advance(TTL_S + 1)
        return self.sweep()

    def sweep(self) -> int:
        """Revoke what has run out, without the mercy that a real sweep may have."""
        return expiry.revoke(self.context)

    def rows(self, sql: str, **parameters: Any) -> Sequence[Row[Any]]:
        """Read the tables."""
        with self.context.database.statements() as connection:
            return connection.execute(text(sql), parameters).all()

    def value(self, sql: str, **parameters: Any) -> Any:
        """Read one value from the tables."""
        return self.rows(sql, **parameters)[0][0]


def empty(database: Database) -> None:
    """Forget every study and worker, in a few milliseconds: a database of its own takes a hundred times as long."""
    with database.transaction() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica; " + _DELETE_ALL))


_DELETE_ALL = "; ".join(
    f"DELETE FROM {table}"
    for table in (
        *(
            f"trimtab.{name}"
            for name in ("events", "reports", "attempts", "trials", "set_aside", "studies")
        ),
        *(
            f"trimtab.{name}"
            for name in ("workers", "artifacts", "idempotency", "validation_outputs")
        ),
        *(table.name for table in optuna_tables() if table.name != "version_info"),
    )
)
