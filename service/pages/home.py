"""What a browser finds that is given the service's address and nothing more."""

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

router = APIRouter(include_in_schema=False)


@router.get("/")
async def home() -> RedirectResponse:
    """The dashboard."""
    return RedirectResponse("/dashboard")
