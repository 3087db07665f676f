"""TPE's proposals beside a scheduler that has no model to trust yet."""

from collections.abc import Iterable, Mapping, Sequence

from service.domain.facts import Changes, TrialFacts
from service.sampling.asking import ask
from service.sampling.distributions import distributions
from service.sampling.history import History
from service.sampling.tpe import JointTPE, Shown
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import Scalar, Space

LARGEST_SHOWN = 500
"""The number of finished trials that TPE is shown at most, since its time grows with these."""


class TpeBeside:
    """TPE over a history of its own; paused trials are to it what pruned ones are."""

    def __init__(self, space: Space, direction: Direction) -> None:
        self._distributions = distributions(space)
        self._direction: Direction = direction
        self._history = History(direction)
        self._shown = Shown(self._distributions)

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
        trials = self._shown.show(self._history.capped(LARGEST_SHOWN))
        number = max(number, self._history.next_number)
        trials += [self._shown.running(number + n, one) for n, one in enumerate(in_flight)]
        sampler = JointTPE(self._distributions, seed=seed, startup_trials=0)
        number += len(in_flight)
        return ask(sampler, self._distributions, trials, number, self._direction).values
