"""When a study proposes, when it is over, and what comes then."""

from dataclasses import dataclass

from trimtab.contract.budget import EndedBy
from trimtab.contract.studies import StudyState


@dataclass(frozen=True, slots=True)
class Spending:
    """A study's budget and what is left of it."""

    state: StudyState
    trials_limit: int
    trials_created: int
    exhausted: bool
    """The sampler has no further point to propose."""
    wall_time_over: bool
    unfinished: bool
    """Trials are queued, running or paused."""
    completed: bool
    """At least one trial completed."""
    final_failed: bool
    """The final evaluation was given up."""
    refits_unfinished: bool
    """Refits are queued or running."""
    final_queued: bool
    """The final evaluation has been queued, whatever has become of it."""
    paused_by_search: bool = False
    """Some of the unfinished trials wait for the search to take them up again."""
    reached_limit: EndedBy | None = None
    """The limit beside the wall time that ended the search; `wall_time_over` is true then as well."""
    no_progress: bool = False
    """So many trials have ended without a better value that no further one is to begin."""
    is_external: bool = False
    """Loops of a person's own train its trials: nothing is left to do when these are over."""


def may_propose(spending: Spending) -> bool:
    """Whether the study may start another configuration."""
    return (
        spending.state == "active"
        and spending.trials_created < spending.trials_limit
        and not spending.exhausted
        and not spending.wall_time_over
        and not spending.no_progress
    )


def begun_trials_are_unwanted(spending: Spending) -> bool:
    """Whether queued and paused trials of the study are to be cancelled."""
    if spending.state == "cancelled":
        return True  # given back by a holder that had not heard of it
    return spending.state in ("active", "stopping") and spending.wall_time_over


def paused_are_unwanted(spending: Spending) -> bool:
    """Whether trials that the search has paused are to be pruned: nobody will take them up again."""
    if not spending.paused_by_search or spending.state not in ("active", "stopping"):
        return False
    return spending.state == "stopping" or spending.exhausted or spending.wall_time_over


def ended_by(spending: Spending) -> EndedBy:
    """What ended the search of a study that proposes nothing more."""
    if spending.wall_time_over:
        return spending.reached_limit or "wall_time"
    if spending.state == "stopping":
        return "stopped"
    is_short = spending.trials_created < spending.trials_limit
    if is_short and spending.no_progress:
        return "no_progress"
    # A search that pauses trials is exhausted too once none of these is worth more epochs.
    return "exhausted" if is_short and spending.exhausted else "trials"


def final_is_due(spending: Spending) -> bool:
    """Whether the final evaluation is to be queued: it waits for every refit, and for none that is over."""
    return (
        spending.state == "finalising"
        and not spending.refits_unfinished
        and not spending.final_queued
    )


def next_state(spending: Spending) -> StudyState:
    """The state that follows from what was spent; the same state when nothing follows."""
    match spending.state:
        case "active" | "stopping" if not spending.unfinished and not may_propose(spending):
            is_evaluated = spending.completed and not spending.is_external
            return "finalising" if is_evaluated else "done"
        case "finalising" if spending.final_failed:
            return "done"
        case state:
            return state
