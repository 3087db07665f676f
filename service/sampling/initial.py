"""The first trials of a study, each made by its number: a person's, the known recipes', then the prior's."""

from collections.abc import Mapping
from itertools import chain
from threading import Lock

from service.sampling.asking import Draws
from service.sampling.canonical import Canonical
from service.sampling.distributions import Distributions
from service.sampling.prior import generator, point_at, value_at
from service.sampling.tpe import RANDOM_TRIALS
from service.sampling.untried import Untried
from trimtab.contract.search_space import Scalar, nearest
from trimtab.contract.starts import FIRST_TRIALS, PRIOR, Start
from trimtab.contract.studies import StudyDocument

POINTS_TRIED = 50
"""How many further points of the prior are looked at for one in a cell that no earlier trial has."""


class InitialDesign:
    """What a study proposes before its sampler has seen enough, and the prior that it is drawn from.

    Documents of releases that had no such thing have none: their sampler proposes from the first trial on.
    """

    def __init__(self, document: StudyDocument, distributions: Distributions) -> None:
        self._space = document.space
        self._canonical = Canonical(document.space)
        self._seed = document.search.seed
        self.draws = Draws(distributions)
        """Draws from the space alone, priors or not."""
        self.known = document.starts is not None
        """Whether the study has an initial design at all."""
        self.length = document.numbered_trials
        """The number of trials that are made by their number."""
        given = document.search.tpe_startup_trials
        self.before_model = self.length if given is None else given
        """How many trials must have ended before a model proposes; until then trials are drawn from the prior.

        Documents of releases that had no such number wait for as many as are made by their number.
        """
        is_own = given is None and not (self.known and document.search.initial_trials)
        self.left_to_tpe = RANDOM_TRIALS if is_own else 0
        """How many trials TPE draws itself in such documents, where nothing stands in their place: without priors."""
        own = (Start(values=one, proposed_by=FIRST_TRIALS) for one in document.first_trials)
        self._starts = (*own, *(document.starts or ()))
        self._untried = Untried(document.space)
        self._design: list[Start] = []
        self._designing = Lock()

    @property
    def listed(self) -> int:
        """The number of trials whose points are listed in the document, rather than drawn from the prior."""
        return len(self._starts)

    def prior(self, number: int) -> Mapping[str, Scalar]:
        """Return the point of the prior that belongs to trial `number`, inactive dimensions among it."""
        return point_at(self._space, self._seed, number)

    def point(self, number: int, given: Mapping[str, Scalar], proposed_by: str) -> Start:
        """Return trial `number` with some values given, the others being the prior's."""
        own = {name: nearest(self._space[name], value) for name, value in given.items()}
        values = self._canonical.active({**self.prior(number), **own})
        return Start(values=values, proposed_by=proposed_by)

    def at(self, number: int) -> Start | None:
        """Return the values of trial `number`, whoever claims it, and what they come from.

        In a space of finitely many points none comes twice, but for what a person wants tried twice; None where the trials
        before it have all of these.
        """
        if not self._untried.is_counted:
            return self._start(number)
        with self._designing:
            while len(self._design) <= number:
                start = self._new(len(self._design))
                if start is None:
                    return None
                self._design.append(start)
            return self._design[number]

    def _new(self, number: int) -> Start | None:
        start = self._start(number)
        if start.proposed_by == FIRST_TRIALS:
            return start
        before = self._untried.tried(one.values for one in self._design)
        further = (point_at(self._space, self._seed, number + n) for n in range(POINTS_TRIED))
        found = self._untried.first(chain([start.values], further), before, number)
        if found is None or found is start.values:
            return None if found is None else start
        return Start(values=self._canonical.active(found), proposed_by=PRIOR)

    def _start(self, number: int) -> Start:
        if number >= len(self._starts):
            return self.point(number, {}, PRIOR)
        start = self._starts[number]
        return self.point(number, start.values, start.proposed_by)

    def draw(self, seed: int) -> Mapping[str, Scalar]:
        """Return a point of the prior at random, inactive dimensions among it; without priors, what Optuna draws."""
        drawn = self.draws.draw(seed)
        if not self.known:
            return drawn
        return drawn | {
            name: value_at(dimension, generator(seed, name).random())
            for name, dimension in self._space.items()
            if dimension.prior is not None
        }
