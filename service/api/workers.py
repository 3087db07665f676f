"""Routes of workers and of their artifacts."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.bodies import JsonRoute
from service.api.dependencies import ServiceContext
from service.api.downloads import WholeFile
from service.use_cases import artifacts, demand, memory, workers
from trimtab.contract.demand import Demand
from trimtab.contract.memory import MemoryFinding, MemoryFindings, Short
from trimtab.contract.message import Sha256
from trimtab.contract.workers import Registration, Worker, Workers

router = APIRouter(prefix="/v1", route_class=JsonRoute, tags=["workers"])

LARGEST_ARTIFACT_BYTES = 16 * 2**30

ArtifactName = Annotated[Sha256, Path()]


@router.post("/workers", status_code=201)
def register_worker(registration: Registration, context: ServiceContext) -> Worker:
    """Introduce a worker process; the answer has its id."""
    return workers.register(context, registration)


@router.get("/workers")
def list_workers(context: ServiceContext) -> Workers:
    """Workers, the last registered first."""
    return workers.newest(context)


@router.post("/workers/{worker_id}:drain")
def drain_worker(worker_id: UUID, context: ServiceContext) -> Worker:
    """Ask a worker to store checkpoints, give its trials back and leave; it gets no more leases."""
    return workers.drain(context, worker_id)


@router.get("/demand")
def read_demand(
    context: ServiceContext,
    gpu_memory_gb: Annotated[
        float | None,
        Query(
            ge=0,
            le=10_000,
            description="Count only what a device with a GPU of this size can hold; 0: what runs without one.",
        ),
    ] = None,
    devices: Annotated[
        int | None,
        Query(
            ge=1, le=64, description="Count only what a worker with so many devices can train."
        ),
    ] = None,
) -> Demand:
    """How many leases there is work for now, and how many are held: what a number of workers can be chosen by."""
    return demand.now(context, gpu_memory_gb, devices)


@router.get("/memory")
def read_memory(backbone: Annotated[Short, Query()], context: ServiceContext) -> MemoryFindings:
    """What earlier trainings of a backbone took of their devices' memory."""
    return memory.of_backbone(context, backbone)


@router.post("/leases/{lease}/memory", status_code=204)
def remember_memory(lease: UUID, finding: MemoryFinding, context: ServiceContext) -> None:
    """Remember what this lease's training took, so that later ones start with what fits."""
    memory.remember(context, lease, finding)


@router.put(
    "/artifacts/{sha256}",
    status_code=201,
    max_body_size=LARGEST_ARTIFACT_BYTES,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
async def put_artifact(
    sha256: ArtifactName, request: Request, context: ServiceContext
) -> Response:
    """Upload bytes under their sha256; streamed, whole or not at all."""
    size = await context.artifacts.receive(sha256, request.stream())
    await run_in_threadpool(artifacts.record, context, sha256, size)
    return Response(status_code=201)


@router.get("/artifacts/{sha256}", response_class=WholeFile)
def get_artifact(sha256: ArtifactName, context: ServiceContext) -> WholeFile:
    """Download bytes by their sha256."""
    return WholeFile(artifacts.path(context, sha256), media_type="application/octet-stream")
