"""Asks one of Optuna's samplers for one trial, over trials in memory; nothing is kept."""

import math
from collections.abc import Callable, Container, Sequence
from threading import Lock
from typing import Any, NoReturn

import numpy as np
import optuna
from numpy.random import RandomState
from optuna._transform import (
    _SearchSpaceTransform,  # pyright: ignore[reportPrivateUsage] - as Optuna's samplers do
    _untransform_numerical_param,  # pyright: ignore[reportPrivateUsage]
)
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from service.sampling.distributions import Distributions, internal
from service.sampling.proposals import Proposal
from service.sampling.tpe import frozen
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import Scalar

_STUDY = 0


def ask(
    sampler: BaseSampler,
    distributions: Distributions,
    trials: Sequence[FrozenTrial],
    number: int,
    direction: Direction,
) -> Proposal:
    """Return what the sampler proposes as trial `number`, having seen `trials` (of other numbers)."""
    storage = _OneAsk(trials, number, direction)
    study = optuna.load_study(study_name="", storage=storage, sampler=sampler)
    study.ask(dict(distributions))
    asked = storage.asked
    return Proposal(
        values=asked.params,
        internal=internal(distributions, asked.params),
        attributes=asked.system_attrs,
    )


class Draws:
    """Draws trials at random, from several threads too.

    Args:
        distributions: The dimensions of the study's space.
    """

    def __init__(self, distributions: Distributions) -> None:
        self._draws = {name: _draw_of(found) for name, found in distributions.items()}
        # Seeded anew for each trial: to make one takes fifty times as long.
        self._rng = RandomState(0)
        self._drawing = Lock()

    def draw(self, seed: int) -> dict[str, Scalar]:
        """Return what `ask` would of Optuna's random sampler of this seed, which looks at no trial and at no study."""
        with self._drawing:
            self._rng.seed(seed)
            return {name: draw(self._rng) for name, draw in self._draws.items()}


def _draw_of(distribution: BaseDistribution) -> Callable[[RandomState], Any]:
    """Return how a value is drawn, as Optuna's random sampler does: it looks for the bounds of each dimension anew."""
    if distribution.single():  # Optuna draws no number for it
        only = distribution.to_external_repr(_only_value(distribution))
        return lambda _: only
    bounds = _SearchSpaceTransform({"": distribution}).bounds
    low, high = float(bounds[0, 0]), float(bounds[0, 1])
    found = _number_of(distribution)

    def drawn(rng: RandomState) -> Any:
        # One number for each choice, of which the greatest decides.
        if isinstance(distribution, CategoricalDistribution):
            internal = float(rng.random_sample(len(bounds)).argmax())
        else:
            internal = float(found(rng.uniform(low, high)))
        return distribution.to_external_repr(internal)

    return drawn


def _number_of(distribution: BaseDistribution) -> Callable[[float], float]:
    """Return what makes a value of a range out of what was drawn between its bounds."""
    if not isinstance(distribution, FloatDistribution) or distribution.step is not None:
        return lambda drawn: _untransform_numerical_param(drawn, distribution, True)
    low, high = distribution.low, distribution.high
    highest = float(np.nextafter(high, high - 1))
    if not distribution.log:
        return lambda drawn: min(drawn, highest)
    return lambda drawn: min(max(math.exp(drawn), low), highest)


def _only_value(distribution: BaseDistribution) -> float:
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return distribution.low
    return 0.0  # the first choice


class _OneAsk(BaseStorage):
    """As much of a storage as one `ask` of a study with one objective value needs."""

    def __init__(
        self, trials: Sequence[FrozenTrial], number: int, direction: Direction
    ) -> None:
        self.asked = frozen(number, TrialState.RUNNING, {}, {})
        self._trials = [*trials, self.asked]
        self._direction = StudyDirection[direction.upper()]

    def get_study_id_from_name(self, study_name: str) -> int:
        return _STUDY

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [self._direction]

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        return self.asked.number

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        self.asked.distributions[param_name] = distribution
        self.asked.params[param_name] = distribution.to_external_repr(param_value_internal)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.asked.system_attrs[key] = value

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self.asked

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError("one ask has no use for this")

    create_new_study = delete_study = get_all_studies = _refuse
    get_study_name_from_id = get_study_user_attrs = get_study_system_attrs = _refuse
    set_study_user_attr = set_study_system_attr = set_trial_user_attr = _refuse
    set_trial_state_values = set_trial_intermediate_value = _refuse
