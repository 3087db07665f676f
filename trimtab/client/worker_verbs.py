"""What workers and loops of a person's own ask of the service: a verb per endpoint of the lease protocol."""

from pathlib import Path
from uuid import UUID

from trimtab.client import files
from trimtab.client.wire import Wire
from trimtab.contract.demand import Demand
from trimtab.contract.external_leases import ExternalLeases
from trimtab.contract.leases import (
    Answer,
    CheckpointReport,
    LeaseRequest,
    Leases,
    Outcome,
    Release,
    Reports,
    Settled,
)
from trimtab.contract.memory import MemoryFinding, MemoryFindings
from trimtab.contract.records import TrialRecord
from trimtab.contract.validation_outputs import TrialOutputsPage
from trimtab.contract.workers import Registration, Worker, Workers

NO_CONTENT = 204


class WorkerVerbs:
    """The verbs of the lease protocol."""

    _wire: Wire

    def workers(self) -> Workers:
        """List the workers, newest first."""
        return self._wire.parse(Workers, self._wire.send("GET", "/v1/workers"))

    def drain_worker(self, worker_id: UUID) -> Worker:
        """Ask a worker to store checkpoints, give its trials back and leave; it gets no more leases."""
        response = self._wire.send("POST", f"/v1/workers/{worker_id}:drain")
        return self._wire.parse(Worker, response)

    def demand(
        self, *, gpu_memory_gb: float | None = None, devices: int | None = None
    ) -> Demand:
        """Return how many leases there is work for now, and how many are held.

        Args:
            gpu_memory_gb: The memory of a GPU in GB; what needs a larger one is left out. None: nothing is.
            devices: The number of devices of a worker; what needs more is left out. None: nothing is.
        """
        asked = {"gpu_memory_gb": gpu_memory_gb, "devices": devices}
        params = {name: str(value) for name, value in asked.items() if value is not None}
        return self._wire.parse(Demand, self._wire.send("GET", "/v1/demand", params=params))

    def register(self, registration: Registration) -> Worker:
        """Register a worker; the answer has its id."""
        return self._wire.parse(Worker, self._wire.send("POST", "/v1/workers", registration))

    def claim(self, request: LeaseRequest) -> Leases:
        """Ask for work; empty when there was none within the request's `wait_s`."""
        response = self._wire.send("POST", "/v1/leases", request, wait_s=request.wait_s)
        if response.status_code == NO_CONTENT:
            return Leases(leases=())
        return self._wire.parse(Leases, response)

    def claim_external(self, request: LeaseRequest) -> ExternalLeases:
        """Ask for a trial of the external study that the worker is registered for; empty when there was none."""
        response = self._wire.send("POST", "/v1/leases", request, wait_s=request.wait_s)
        if response.status_code == NO_CONTENT:
            return ExternalLeases(leases=())
        return self._wire.parse(ExternalLeases, response)

    def report(self, lease_id: UUID, reports: Reports) -> Answer:
        """Store intermediate values, renew the lease, and learn whether to go on."""
        response = self._wire.send("POST", f"/v1/leases/{lease_id}/reports", reports)
        return self._wire.parse(Answer, response)

    def heartbeat(self, lease_id: UUID) -> Answer:
        """Renew the lease, and learn whether to go on."""
        response = self._wire.send("POST", f"/v1/leases/{lease_id}:heartbeat")
        return self._wire.parse(Answer, response)

    def checkpoint(self, lease_id: UUID, report: CheckpointReport) -> None:
        """Record the newest checkpoint; its bytes must have been uploaded before."""
        self._wire.send("POST", f"/v1/leases/{lease_id}/checkpoints", report)

    def remember_memory(self, lease_id: UUID, finding: MemoryFinding) -> None:
        """Record how much of its device's memory a training took."""
        self._wire.send("POST", f"/v1/leases/{lease_id}/memory", finding)

    def memory(self, backbone: str) -> MemoryFindings:
        """Return how much of their devices' memory earlier trainings of a backbone took."""
        response = self._wire.send("GET", "/v1/memory", params={"backbone": backbone})
        return self._wire.parse(MemoryFindings, response)

    def record(self, lease_id: UUID, record: TrialRecord) -> None:
        """Store what the worker found when the attempt began; a later record of the attempt replaces it."""
        self._wire.send("PUT", f"/v1/leases/{lease_id}/record", record)

    def validation_outputs(self, lease_id: UUID, *, start: int = 0) -> TrialOutputsPage:
        """Return what completed trials answered to the validation split, from a trial number on; for a final lease."""
        response = self._wire.send(
            "GET", f"/v1/leases/{lease_id}/validation-outputs", params={"from": start}
        )
        return self._wire.parse(TrialOutputsPage, response)

    def release(self, lease_id: UUID, release: Release) -> None:
        """Give the trial back unfinished."""
        self._wire.send("POST", f"/v1/leases/{lease_id}:release", release)

    def settle(self, lease_id: UUID, outcome: Outcome) -> Settled:
        """Record how the attempt ended; a repeated call gets the answer of the first."""
        response = self._wire.send("PUT", f"/v1/leases/{lease_id}/outcome", outcome)
        return self._wire.parse(Settled, response)

    def upload(self, path: str | Path, sha256: str) -> None:
        """Store a file's bytes under their sha256."""
        files.upload(self._wire, f"/v1/artifacts/{sha256}", Path(path))

    def download(self, sha256: str, path: str | Path) -> Path:
        """Fetch the bytes with this sha256 into `path`; other bytes are refused."""
        return files.download(self._wire, f"/v1/artifacts/{sha256}", Path(path), sha256)
