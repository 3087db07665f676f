"""Is it alive, is it ready, what is it."""

from importlib.metadata import version

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from service.api.dependencies import ServiceContext, require_staying
from service.use_cases import health
from trimtab.contract.info import Info

router = APIRouter(tags=["health"])


@router.get("/livez", status_code=204)
async def livez() -> None:
    """The process answers."""


@router.get("/readyz", status_code=204)
async def readyz(context: ServiceContext, request: Request) -> None:
    """The database answers too and has our schema, and this replica is going to stay."""
    await require_staying(request)
    await run_in_threadpool(health.check, context)


@router.get("/v1/info")
async def info(request: Request) -> Info:
    """The version, and where the dashboard is."""
    base = str(request.base_url)
    return Info(version=version("trimtab"), dashboard=f"{base}dashboard")
