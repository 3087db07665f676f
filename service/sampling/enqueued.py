"""What a person wants tried next, as trials of their numbers."""

from collections.abc import Mapping

from service.sampling.distributions import distributions
from service.sampling.initial import InitialDesign
from trimtab.contract.search_space import Scalar
from trimtab.contract.starts import ENQUEUED, Start
from trimtab.contract.studies import StudyDocument


def queue(document: StudyDocument, number: int, values: Mapping[str, Scalar]) -> list[Start]:
    """Return the trials to queue from `number` on: the person's, then the points to begin with that it goes before.

    Those points are made by their number, and the trial takes the number of the first one that is left. So all that are
    left are queued behind it, in their order, and none is lost.

    Args:
        document: The study's document.
        number: The number of the next trial.
        values: The person's values, members of their dimensions; names that are missing get the prior's.
    """
    initial = InitialDesign(document, distributions(document.space))
    first = initial.point(number, values, ENQUEUED)
    left = (initial.at(later) for later in range(number, initial.listed))
    return [first, *filter(None, left)]
