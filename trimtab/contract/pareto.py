"""The answer of `/pareto`: the trials that no other one beats in both objectives."""

from collections.abc import Mapping

from trimtab.contract.message import Message
from trimtab.contract.objectives import Objective
from trimtab.contract.search_space import Scalar
from trimtab.contract.studies import StudyState


class FrontTrial(Message):
    """A trial on the front: whatever is better than it in one objective is worse in the other."""

    number: int
    values: Mapping[str, float]
    """The values of both objectives, by their metrics."""
    hyperparameters: Mapping[str, Scalar]
    measured: Mapping[str, float]
    """What its worker measured of it, as in a trial."""


class Pareto(Message):
    """The Pareto front of a study with two objectives, of completed trials that keep its constraints."""

    study: str
    state: StudyState
    objectives: tuple[Objective, ...]
    """Both objectives with their directions, the task's own first."""
    trials: tuple[FrontTrial, ...]
    """The trials of the front, the best of the first objective first; none before one has completed."""
