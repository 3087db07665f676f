"""TPE's proposals beside a scheduler that has no model to trust yet."""

from collections.abc import Iterable, Mapping, Sequence

from service.domain.facts import Changes, TrialFacts
from service.sampling.canonical import Canonical
from service.sampling.distributions import distributions
from service.sampling.history import History
from service.sampling.joint import ArrayTPE
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import Scalar, Space

LARGEST_SHOWN = 500
"""The number of finished trials that TPE is shown at most, since its time grows with these."""


class TpeBeside:
    """The sampler `tpe` over a history of its own; paused trials are to it what pruned ones are."""

    def __init__(self, space: Space, direction: Direction) -> None:
        self._history = History(direction)
        self._tpe = ArrayTPE(distributions(space), LARGEST_SHOWN, Canonical(space))

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        self._history.apply(Changes(tuple(trials), (0, 0)))

    def propose(
        self, number: int, in_flight: Sequence[Mapping[str, Scalar]], seed: int
    ) -> Mapping[str, Scalar]:
        """Return a configuration to try next.

        Args:
            number: The number that the trial would get.
            in_flight: The configurations that are proposed already and not in the history yet.
            seed: The seed of the random numbers.
        """
        self._tpe.look(self._history, in_flight, number)
        return next(iter(self._tpe.candidates(seed)))
