"""What a person wants tried next, as trials of their numbers."""

from collections.abc import Mapping

from service.sampling.distributions import distributions
from service.sampling.initial import InitialDesign
from trimtab.contract.search_space import Scalar, nearest
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
    own = {name: nearest(document.space[name], value) for name, value in values.items()}
    first = Start(values={**initial.prior(number), **own}, proposed_by=ENQUEUED)
    left = (initial.at(later) for later in range(number, initial.listed))
    return [first, *filter(None, left)]
