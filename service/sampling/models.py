"""Which model searches a study."""

from service.sampling.expected_ends import finals_of
from service.sampling.gaussian import GaussianSampler
from service.sampling.pareto import ParetoSampler
from trimtab.contract.studies import StudyDocument


def gaussian_of(document: StudyDocument) -> GaussianSampler | ParetoSampler | None:
    """Return the Gaussian processes of a study that is searched by these; None: it is not."""
    if document.search.sampler != "gp":
        return None
    strength, direction = document.search.prior_strength, document.task.direction
    if document.second_direction is not None:
        directions = direction, document.second_direction
        return ParetoSampler(document.space, directions, strength)
    return GaussianSampler(document.space, direction, strength, finals_of(document))
