"""The route of studies that come in from plain Optuna."""

from fastapi import APIRouter

from service.api.bodies import JsonRoute
from service.api.dependencies import ServiceContext
from service.api.studies import IdempotencyKey
from service.use_cases import imports
from trimtab.contract.imports import ImportReport, StudyImport

LARGEST_BYTES = 16 * 2**20
"""A study of 10,000 trials with a few hyperparameters and short curves."""

router = APIRouter(prefix="/v1/imports", route_class=JsonRoute, tags=["imports"])


@router.post("", status_code=201, max_body_size=LARGEST_BYTES)
def import_study(
    found: StudyImport, context: ServiceContext, idempotency_key: IdempotencyKey = None
) -> ImportReport:
    """Bring in a study of plain Optuna as history, to look at in the dashboard and to begin other studies with."""
    return imports.bring_in(context, found, idempotency_key)
