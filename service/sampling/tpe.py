"""Tree-structured Parzen estimator: Optuna's, over what the history shows of its trials."""

from collections.abc import Iterable, Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from service.domain.facts import TrialFacts
from service.sampling.distributions import Distributions
from service.sampling.history import Role, role
from trimtab.contract.search_space import Scalar

_STATES: Mapping[Role, TrialState] = {
    "completed": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,
    "running": TrialState.RUNNING,
}


RANDOM_TRIALS = 10
"""The number of trials that Optuna's TPE draws at random before it learns from them."""


FURTHEST = 1e300
"""The violation of a trial that failed by its configuration's fault, which no constraint tells."""


class JointTPE(TPESampler):
    """Optuna's TPE, multivariate and with the constant liar, over a space that is known from the start.

    Optuna finds the joint space by intersecting those of all trials, a quarter of the time of a proposal.
    In a study of ours every trial has the study's whole space.
    """

    def __init__(
        self, distributions: Distributions, *, seed: int, startup_trials: int = RANDOM_TRIALS
    ) -> None:
        super().__init__(
            multivariate=True, constant_liar=True, seed=seed, n_startup_trials=startup_trials
        )
        self._joint = {
            name: found for name, found in distributions.items() if not found.single()
        }

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all dimensions that leave a choice."""
        return self._joint


class Shown:
    """Trials as a sampler of Optuna sees them; what was shown the last time is not made again."""

    def __init__(self, distributions: Distributions) -> None:
        self._distributions = dict(distributions)
        self._last: dict[int, tuple[TrialFacts, FrozenTrial]] = {}

    def show(self, trials: Iterable[TrialFacts]) -> list[FrozenTrial]:
        """Return Optuna's view of trials that have a role."""
        last = self._last
        self._last = {}
        for trial in trials:
            known = last.get(trial.number)
            if known is None or known[0] is not trial:
                known = (trial, self._frozen(trial))
            self._last[trial.number] = known
        return [frozen for _, frozen in self._last.values()]

    def running(self, number: int, values: Mapping[str, Scalar]) -> FrozenTrial:
        """Return a trial that runs with these values."""
        return frozen(number, TrialState.RUNNING, values, self._distributions)

    def _frozen(self, trial: TrialFacts) -> FrozenTrial:
        found = role(trial)
        if found is None:
            raise ValueError(f"trial {trial.number} is not for a sampler's eyes")
        shown = frozen(trial.number, _STATES[found], trial.hyperparameters, self._distributions)
        if found == "infeasible":
            # A trial whose configuration failed says where not to look, and nothing about how good it was.
            # Optuna ranks infeasible trials by the sum of their violations; one that failed is further off than any.
            far = FURTHEST if trial.violation is None else trial.violation
            shown.system_attrs["constraints:trains"] = far
            return shown
        shown.intermediate_values = {
            step: float("nan") if value is None else value for step, value in trial.curve
        }
        if found == "completed":
            shown.value = trial.value
        return shown


def frozen(
    number: int,
    state: TrialState,
    values: Mapping[str, Scalar],
    distributions: dict[str, BaseDistribution],
) -> FrozenTrial:
    """Return a trial of Optuna's without times, which no sampler reads."""
    return FrozenTrial(
        number=number,
        state=state,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params=dict[str, Any](values),
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )
