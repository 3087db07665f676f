"""The states of trials and studies, the legal steps between them, and what Optuna calls them."""

from collections.abc import Mapping
from typing import Literal

from trimtab.contract.studies import StudyState
from trimtab.contract.trials import FailureKind, TrialState

OptunaState = Literal["WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"]

TRIAL_STEPS: Mapping[TrialState, frozenset[TrialState]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"queued", "paused", "completed", "pruned", "failed", "cancelled"}),
    "paused": frozenset({"queued", "running", "pruned", "cancelled"}),
    "completed": frozenset(),
    "pruned": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}

STUDY_STEPS: Mapping[StudyState, frozenset[StudyState]] = {
    "active": frozenset({"paused", "stopping", "finalising", "done", "cancelled", "deleting"}),
    "paused": frozenset({"active", "stopping", "cancelled", "deleting"}),
    "stopping": frozenset({"finalising", "done", "cancelled", "deleting"}),
    "finalising": frozenset({"done", "cancelled", "deleting"}),
    "done": frozenset({"deleting"}),
    "cancelled": frozenset({"deleting"}),
    "deleting": frozenset(),
}

TRIAL_STEPS_BACK: Mapping[TrialState, frozenset[TrialState]] = {"failed": frozenset({"queued"})}
"""The steps out of an end, which a person alone can take: by `:retry`."""

STUDY_STEPS_BACK: Mapping[StudyState, frozenset[StudyState]] = {"done": frozenset({"active"})}
"""The steps out of an end, which a person alone can take: by more budget."""

_OPTUNA: Mapping[TrialState, OptunaState] = {
    "queued": "WAITING",
    "running": "RUNNING",
    "paused": "WAITING",
    "completed": "COMPLETE",
    "pruned": "PRUNED",
    "failed": "FAIL",
    "cancelled": "FAIL",
}


INFEASIBLE: frozenset[FailureKind] = frozenset({"oom", "diverged", "recipe_unfit"})
"""Failures that the configuration causes: it would fail so again, anywhere. Others are of data, machines or code."""

UNSERVABLE: frozenset[FailureKind] = frozenset({"data_missing", "user_error"})
"""Failures that no other try of the same worker heals: what the study names is not there, or is not what it has to be.

They cost the trial nothing. The worker is set aside for the study, and another one may have what this one lacks.
"""


def is_over(state: TrialState) -> bool:
    """Whether the state is terminal: no step leads out of it."""
    return not TRIAL_STEPS[state]


def optuna_state(state: TrialState, error_kind: FailureKind | None = None) -> OptunaState:
    """What Optuna's tables say. An infeasible trial is PRUNED: a FAIL teaches Optuna's samplers nothing."""
    if state == "failed" and error_kind in INFEASIBLE:
        return "PRUNED"
    return _OPTUNA[state]
