"""Which scheduler a study has."""

from service.sampling.model.curves import decision_epochs
from service.sampling.scheduling.asha import asha
from service.sampling.scheduling.freeze_thaw import FreezeThaw
from service.sampling.scheduling.hyperband import hyperband
from service.sampling.scheduling.scheduler import Scheduler
from trimtab.contract.schedulers import AshaScheduler, FreezeThawScheduler, HyperbandScheduler
from trimtab.contract.studies import StudyDocument


def scheduler_for(document: StudyDocument) -> Scheduler | None:
    """Make the scheduler that the document names; None where its trials are never paused by the search."""
    epochs, direction = document.usual_epochs, document.task.direction
    wanted = 1 if document.finish is None else document.finish.ensemble
    match document.search.pruner:
        case AshaScheduler() as chosen:
            return asha(chosen, epochs=epochs, direction=direction, wanted=wanted)
        case HyperbandScheduler() as chosen:
            return hyperband(chosen, epochs=epochs, direction=direction, wanted=wanted)
        case FreezeThawScheduler():
            return FreezeThaw.of(document, wanted=wanted)
        case _:
            return None


def decides_at(document: StudyDocument, epochs: int) -> bool:
    """Tell whether a trial that runs to its end is decided on all the same when it has this many epochs."""
    if not isinstance(document.search.pruner, FreezeThawScheduler):
        return False
    return epochs in decision_epochs(document.usual_epochs)[:-1]
