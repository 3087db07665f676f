"""The first trials of a study, each made by its number: a person's, the known recipes', then the prior's."""

from collections.abc import Mapping

from service.sampling.asking import draw
from service.sampling.distributions import Distributions
from service.sampling.prior import generator, point_at, value_at
from service.sampling.tpe import RANDOM_TRIALS
from trimtab.contract.search_space import Scalar, nearest
from trimtab.contract.starts import FIRST_TRIALS, PRIOR, Start
from trimtab.contract.studies import StudyDocument


class InitialDesign:
    """What a study proposes before its sampler has seen enough, and the prior that it is drawn from.

    Documents of releases that had no such thing have none: their sampler proposes from the first trial on.
    """

    def __init__(self, document: StudyDocument, distributions: Distributions) -> None:
        self._space = document.space
        self._seed = document.search.seed
        self._distributions = distributions
        self.known = document.starts is not None
        """Whether the study has an initial design at all."""
        self.length = document.numbered_trials
        """The number of trials that are made by their number."""
        self.left_to_tpe = 0 if self.known and document.search.initial_trials else RANDOM_TRIALS
        """The number of trials that Optuna's TPE still draws at random: none where this stands in their place."""
        own = (Start(values=one, proposed_by=FIRST_TRIALS) for one in document.first_trials)
        self._starts = (*own, *(document.starts or ()))

    @property
    def listed(self) -> int:
        """The number of trials whose points are listed in the document, rather than drawn from the prior."""
        return len(self._starts)

    def prior(self, number: int) -> Mapping[str, Scalar]:
        """Return the point of the prior that belongs to trial `number`."""
        return point_at(self._space, self._seed, number)

    def at(self, number: int) -> Start:
        """Return the values of trial `number`, whoever claims it, and what they come from."""
        found = dict(self.prior(number))
        if number >= len(self._starts):
            return Start(values=found, proposed_by=PRIOR)
        start = self._starts[number]
        given = {
            name: nearest(self._space[name], value) for name, value in start.values.items()
        }
        return start.model_copy(update={"values": found | given})

    def draw(self, seed: int) -> Mapping[str, Scalar]:
        """Return a point of the prior at random; where no dimension has one, what Optuna's random sampler draws."""
        drawn = draw(self._distributions, seed)
        if not self.known:
            return drawn
        return drawn | {
            name: value_at(dimension, generator(seed, name).random())
            for name, dimension in self._space.items()
            if dimension.prior is not None
        }
