"""What a lease holder is told, and what becomes of a trial when its lease ends: decisions as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service.domain.lifecycle import (
    INFEASIBLE,
    UNSERVABLE,
    OptunaState,
    is_over,
    optuna_state,
)
from trimtab.contract.events import EventKind
from trimtab.contract.leases import (
    Completed,
    Failed,
    Infeasible,
    LeaseKind,
    Outcome,
    Pruned,
    Verdict,
)
from trimtab.contract.studies import StudyState
from trimtab.contract.trials import FailureKind, TrialState

AttemptOutcome = Literal[
    "completed", "pruned", "failed", "cancelled", "drained", "paused", "expired", "set_aside"
]

LONGEST_BACK_OFF_S = 300.0
_OF_THE_FINISH: Mapping[LeaseKind, tuple[EventKind, EventKind]] = {
    "refit": ("refit_queued", "refit_settled"),
    "final": ("final_queued", "final_settled"),
}
"""What happened to a lease that is no trial's: it is to be claimed again, or it is over."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease's trial and study, as stored when the holder speaks or falls silent."""

    kind: LeaseKind
    study_state: StudyState
    wall_time_over: bool
    crashes: int
    max_crashes: int
    paused_by_search: bool = False
    """It was told to pause because others promise more, and is given back for that."""
    is_saved: bool = False
    """Where the search has paused it: whether a checkpoint has all that it reported."""
    stop_asked: bool = False
    """A person wants the trial to end with what it has."""

    @property
    def unwanted(self) -> bool:
        """Nobody waits for this trial any more. What a study's finish takes is owed even after the wall time."""
        if self.study_state in ("cancelled", "deleting"):
            return True
        return self.kind == "trial" and (self.wall_time_over or self.stop_asked)

    @property
    def is_last_try(self) -> bool:
        """One more crash, and the trial is given up."""
        return self.crashes + 1 >= self.max_crashes


WANTED = Held("trial", "active", wall_time_over=False, crashes=0, max_crashes=1)
"""A trial of an active study within its wall time: what a statement has to find where nobody has looked before.

A verdict does not depend on crashes.
"""


@dataclass(frozen=True, slots=True)
class Departure:
    """How a trial leaves its lease. `crash` counts against `max_crashes`; `delay_s` is the back-off."""

    state: TrialState
    outcome: AttemptOutcome
    value: float | None = None
    error_kind: FailureKind | None = None
    error_message: str | None = None
    crash: bool = False
    delay_s: float = 0.0

    @property
    def optuna_state(self) -> OptunaState:
        """What Optuna's tables say of the trial from now on."""
        return optuna_state(self.state, self.error_kind)

    @property
    def is_over(self) -> bool:
        """Whether the trial has ended for good."""
        return is_over(self.state)

    def event(self, kind: LeaseKind) -> EventKind:
        """The name of what happened."""
        if kind != "trial":
            return _OF_THE_FINISH[kind][self.is_over]
        events: dict[TrialState, EventKind] = {
            "queued": "trial_queued",
            "paused": "trial_paused",
            "completed": "trial_completed",
            "pruned": "trial_pruned",
            "failed": "trial_failed",
            "cancelled": "trial_cancelled",
        }
        return events[self.state]


def verdict(held: Held, *, prune: bool, spent: bool = False) -> Verdict:
    """Answer a report or a heartbeat; the study's state and its wall time outrank the pruner.

    At the end of the wall time a trial completes with what it has: nobody wants more of it, but its last epoch counts. One
    that a person stops is pruned, whatever the pruner says.

    Args:
        held: the lease.
        prune: whether the pruner gives up on the trial.
        spent: whether the study's budget has no epoch left for the trial.
    """
    if held.study_state in ("cancelled", "deleting"):
        return "cancel"
    if held.stop_asked:
        return "stop"
    if held.unwanted:
        return "finish"
    if held.study_state == "paused":
        return "pause"
    if held.paused_by_search:
        return "pause"  # told already, by the report that it was decided on
    if prune:
        return "stop"
    return "finish" if spent else "continue"


def back_off_s(crashes: int) -> float:
    """Seconds before the next attempt after so many crashes: 5, 10, 20 ... 300."""
    return min(LONGEST_BACK_OFF_S, 5.0 * 2.0 ** min(crashes, 16))


def settled(held: Held, outcome: Outcome) -> Departure:
    """What the holder's outcome makes of the trial."""
    if isinstance(outcome, Failed) and outcome.error in UNSERVABLE:
        return set_aside(held, outcome.message, outcome.error)
    if isinstance(outcome, Failed) and not depends_on_outcome_alone(outcome):
        if outcome.error in INFEASIBLE and held.is_last_try and not held.unwanted:
            # The kernel ended the process for want of memory each time: no crash of a machine, but the configuration.
            return settled_for_good(outcome)
        return _after_crash(held, "failed", outcome.error, outcome.message)
    return settled_for_good(outcome)


def depends_on_outcome_alone(outcome: Outcome) -> bool:
    """Whether the outcome decides what becomes of its trial, whatever the trial and its study have come to."""
    if not isinstance(outcome, Failed):
        return True
    if outcome.error in UNSERVABLE:
        return False
    # A trial that was told to cancel has done so: it is not tried again, and the failure is not a crash.
    return outcome.error == "cancelled" or not outcome.retryable


def settled_for_good(outcome: Outcome) -> Departure:
    """Do as `settled`, for an outcome on which alone it depends."""
    match outcome:
        case Completed():
            return Departure("completed", "completed", value=outcome.value)
        case Pruned() | Infeasible():
            return Departure("pruned", "pruned")
        case Failed(error="cancelled"):
            return Departure("cancelled", "cancelled", error_kind="cancelled")
        case Failed():
            return Departure(
                "failed", "failed", error_kind=outcome.error, error_message=outcome.message
            )


def released(held: Held, reason: Literal["drain", "paused"]) -> Departure:
    """What a release makes of the trial: no crash is counted."""
    outcome: AttemptOutcome = "drained" if reason == "drain" else "paused"
    if held.paused_by_search and held.study_state not in ("cancelled", "deleting"):
        return Departure("pruned" if held.stop_asked else "paused", outcome)
    if held.unwanted:
        return Departure("cancelled", outcome, error_kind="cancelled")
    # A study that was resumed while its holder was still pausing wants the trial back at once.
    if reason == "paused" and held.study_state == "paused" and held.kind == "trial":
        return Departure("paused", outcome)
    return Departure("queued", outcome)


def set_aside(held: Held, why: str, kind: FailureKind | None = None) -> Departure:
    """What becomes of a trial that its worker cannot serve: others may take it at once, and no crash is counted."""
    if held.unwanted:
        return Departure("cancelled", "set_aside", error_kind="cancelled")
    return Departure("queued", "set_aside", error_kind=kind, error_message=why)


def expired(held: Held) -> Departure:
    """What silence beyond the lease makes of the trial."""
    return _after_crash(held, "expired", "killed", "The worker fell silent.")


def _after_crash(
    held: Held, outcome: AttemptOutcome, kind: FailureKind, message: str
) -> Departure:
    if held.unwanted:
        return Departure("cancelled", outcome, error_kind="cancelled", crash=True)
    if held.is_last_try:
        tries = held.crashes + 1
        reason = f"Failed {tries} time{'s' * (tries != 1)}; the last: {kind}: {message}"
        return Departure(
            "failed", outcome, error_kind="poison", error_message=reason, crash=True
        )
    if held.paused_by_search and held.is_saved:
        # What was trained is kept, and the search has no use for more of it now.
        return Departure("paused", outcome, error_kind=kind, error_message=message, crash=True)
    return Departure(
        "queued",
        outcome,
        error_kind=kind,
        error_message=message,
        crash=True,
        delay_s=back_off_s(held.crashes),
    )
