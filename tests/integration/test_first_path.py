"""The thinnest path through the use cases, on a real Postgres."""

from pathlib import Path
from uuid import uuid4

from service.storage.engine import Database
from service.use_cases import claims, leases, studies
from tests.support.contexts import a_context, a_worker
from tests.support.documents import a_study_document
from trimtab.contract.leases import Completed, Lease, LeaseRequest, Report, Reports


def test_a_study_runs_to_its_final_lease(database: Database, tmp_path: Path) -> None:
    context = a_context(database, tmp_path)
    worker = a_worker(context)
    studies.create(context, a_study_document(budget={"trials": 2}), None)
    for value in (0.5, 0.7):
        (lease,) = claims.claim(
            context, LeaseRequest(worker_id=worker, claim_id=uuid4())
        ).leases
        assert isinstance(lease, Lease)
        assert lease.kind == "trial"
        leases.report(context, lease.lease_id, Reports(reports=(Report(step=0, value=value),)))
        leases.settle(context, lease.lease_id, Completed(value=value))
    (final,) = claims.claim(context, LeaseRequest(worker_id=worker, claim_id=uuid4())).leases
    assert isinstance(final, Lease)
    assert final.kind == "final"
    assert final.validation_accuracy == 0.7
    assert studies.read(context, "digits").state == "finalising"
