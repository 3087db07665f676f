"""What may be changed of a study that has begun, and what follows from it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from trimtab.contract.demand import Needs
from trimtab.contract.edits import NO_LIMIT, NeedsEdit, StudyEdit
from trimtab.contract.external_rules import NO_NEEDS
from trimtab.contract.faults import Fault
from trimtab.contract.studies import StudyDocument, StudyState

BUDGET_MAY_CHANGE: Collection[StudyState] = ("active", "paused", "done")
"""The search goes on, or more budget takes it up again."""
PRIORITY_MAY_CHANGE: Collection[StudyState] = ("active", "paused", "stopping", "finalising")
"""Something of the study is still to be claimed."""
SPACE_MAY_CHANGE: Collection[StudyState] = ("active", "paused")
"""The search goes on."""
PARALLEL_MAY_CHANGE: Collection[StudyState] = ("active", "paused", "stopping")
"""Trials of the study are still to be claimed."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a study stands at when it is changed."""

    state: StudyState
    trials_created: int
    active_s: float
    """The seconds of the wall time that were spent."""
    exhausted: bool
    """The sampler has no further point to propose, though the budget had trials left."""
    reached: str | None = None
    """The name of a limit, beside trials and wall time, that ends the search at once; None: none is reached."""


def edited(document: StudyDocument, edit: StudyEdit) -> StudyDocument:
    """Return the document with the changes; its finish stays, so that the search gets what is more or less."""
    given = {} if edit.budget is None else edit.budget.model_dump(exclude_none=True)
    limits = {name: None if limit == NO_LIMIT else limit for name, limit in given.items()}
    budget = document.budget.model_copy(update=limits)
    changes: dict[str, object] = {"budget": budget}
    if edit.priority is not None:
        changes["priority"] = edit.priority
    if edit.parallel is not None:
        changes["parallel"] = None if edit.parallel == NO_LIMIT else edit.parallel
    if edit.needs is not None:
        changes["needs"] = None if edit.needs == NO_LIMIT else _needs(document, edit.needs)
    return document.model_copy(update=changes)


def _needs(document: StudyDocument, edit: NeedsEdit) -> Needs:
    """Return what the document needs with what the edit names; whoever asks for other memory keeps the number of devices."""
    named = edit.model_dump(exclude_none=True)
    return (document.needs or Needs()).model_copy(update=named)


def refusal(before: StudyDocument, after: StudyDocument, state: StudyState) -> str | None:
    """Return why a study in this state takes no such change; None where it does."""
    if before.budget != after.budget and state not in BUDGET_MAY_CHANGE:
        return _NO_BUDGET[state]
    if before.space_edits != after.space_edits and state not in SPACE_MAY_CHANGE:
        return f"The study is {state}: its search is over, and takes no other space."
    if before.priority != after.priority and state not in PRIORITY_MAY_CHANGE:
        return f"The study is {state}: nothing of it is claimed any more, so it has no use for a priority."
    if before.parallel != after.parallel and state not in PARALLEL_MAY_CHANGE:
        return f"The study is {state}: its trials are over, so it has no use for a limit of those at a time."
    if before.needs != after.needs and state not in PRIORITY_MAY_CHANGE:
        return (
            f"The study is {state}: nothing of it is claimed any more, so it needs no device."
        )
    return None


_OVER = "its search takes no other budget. "
_NO_BUDGET = {
    "stopping": f"The study is stopping: {_OVER}Wait until it is done: more budget takes it up again then.",
    "finalising": f"The study is finalising: {_OVER}Wait until it is done: more budget takes it up again then.",
    "cancelled": f"The study is cancelled: {_OVER}Submit its document under another name.",
    "deleting": f"The study is being deleted: {_OVER}",
}


def faults(after: StudyDocument, spent: Spent) -> Iterator[Fault]:
    """Yield what is wrong with a changed budget."""
    yield from _too_few_trials(after, spent)
    yield from _too_short(after, spent)


def needless(after: StudyDocument) -> Iterator[Fault]:
    """Yield that a study has no use for a device of its workers."""
    if after.needs is not None and after.is_external:
        yield Fault(("needs",), "external_needs", NO_NEEDS)


def _too_few_trials(after: StudyDocument, spent: Spent) -> Iterator[Fault]:
    finish, created = after.finish, spent.trials_created
    refits = 0 if finish is None else finish.trainings
    # A study that is done begins anew only where there is a trial to begin.
    fewest = created + refits + (spent.state == "done")
    if finish is not None:
        fewest = max(fewest, finish.fewest_trials)
    if after.budget.trials < fewest:
        paid = f", and {refits} more pay its refits" if refits else ""
        end = "" if spent.state == "done" else "; `trimtab study stop` ends the search now"
        message = f"{created} trials have begun{paid}: give {fewest} or more{end}"
        yield Fault(("budget", "trials"), "too_few_trials", message)
    elif spent.state == "done" and spent.exhausted:
        message = "every point of the space has been tried: a larger budget finds no other"
        yield Fault(("budget", "trials"), "space_exhausted", message)


def _too_short(after: StudyDocument, spent: Spent) -> Iterator[Fault]:
    wall, of_search = after.budget.wall_time_s, after.search_budget.wall_time_s
    if wall is None or of_search is None or spent.active_s < of_search:
        return
    needed = spent.active_s * wall / of_search
    message = (
        f"the search has been active for {spent.active_s:.0f} s, and would get {of_search:.0f} s of these: "
        f"give more than {needed:.0f} s"
    )
    yield Fault(("budget", "wall_time_s"), "wall_time_spent", message)


def reached(after: StudyDocument, state: StudyState, limit: str | None) -> Iterator[Fault]:
    """Yield that the changed budget leaves a limit which ends the search at once.

    Args:
        after: The changed document.
        state: The state of the study before the change.
        limit: The name of the limit that is reached with the changed budget; None: none is.
    """
    if limit is None:
        return
    end = "" if state == "done" else "; `trimtab study stop` ends the search now"
    message = f"{getattr(after.budget, limit)} is reached already: give one that goes further, or `none`{end}"
    yield Fault(("budget", limit), "limit_reached", message)
