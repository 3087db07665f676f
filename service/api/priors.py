"""What is known before a study begins."""

from fastapi import APIRouter

from service.api.bodies import JsonRoute
from service.api.dependencies import ServiceContext
from service.use_cases import experience
from trimtab.contract.experience import Priors

router = APIRouter(prefix="/v1/priors", route_class=JsonRoute, tags=["priors"])


@router.get("")
def get_priors(context: ServiceContext) -> Priors:
    """The known recipes and the centres of the priors by kind of model and task, and what studies have moved."""
    return experience.priors(context)
