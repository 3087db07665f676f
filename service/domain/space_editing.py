"""What becomes of a study whose search space a person changes while it runs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from trimtab.contract.conditions import Conditions
from trimtab.contract.edits import SpaceEdit, StudyEdit
from trimtab.contract.faults import Fault
from trimtab.contract.search_space import Scalar, Space, contains
from trimtab.contract.studies import StudyDocument
from trimtab.contract.trials import TrialState

UNFINISHED: frozenset[TrialState] = frozenset({"queued", "running", "paused"})
MOST_NAMED = 10
"""How many trials a message names."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A trial that has begun, or waits to."""

    number: int
    state: TrialState
    hyperparameters: Mapping[str, Scalar]


def request_faults(before: StudyDocument, edit: StudyEdit) -> Iterator[Fault]:
    """Yield what is wrong with a change of the space, whatever has been tried."""
    space = edit.space or {}
    if before.search.sampler == "grid":
        message = "a grid walks the points of its space by their number: submit another study"
        yield Fault(("space",), "grid_keeps_its_space", message)
    if ("epochs" in space) != ("epochs" in before.space):
        message = (
            "trials are compared by their epochs: whether they are searched stays as it is"
        )
        yield Fault(("space", "epochs"), "epochs_stay", message)
    for name, value in (edit.fixed or {}).items():
        if name not in before.space and before.fixed.get(name, ...) != value:
            message = "was not searched until now: what is fixed stays as it is"
            yield Fault(("fixed", name), "fixed_stays", message)


def reshaped(before: StudyDocument, edit: StudyEdit, trials_created: int) -> StudyDocument:
    """Return the document with another space; the number of trials outside of it is not counted yet.

    Args:
        before: The document as it is.
        edit: The change; it has a space.
        trials_created: The number of trials that have begun, or wait to.

    Raises:
        ValidationError: no study may have this space, or these fixed values.
    """
    space: Space = edit.space or {}
    fixed = {name: value for name, value in before.fixed.items() if name not in space}
    now: dict[str, object] = {
        "space": space,
        "auto_space": False,
        "fixed": fixed | dict(edit.fixed or {}),
        "completed": [name for name in before.completed if name in fixed],
        "first_trials": (),
        "starts": None if before.starts is None else (),
    }
    after = StudyDocument.model_validate(before.model_dump() | now)
    told = SpaceEdit(trials=trials_created, outside=0, values=_had(before, after.space))
    points = {
        "first_trials": tuple(_inside(after.space, values) for values in before.first_trials),
        "starts": before.starts
        and tuple(
            start.model_copy(update={"values": _inside(after.space, start.values)})
            for start in before.starts
        ),
        "space_edits": (*before.space_edits, told),
    }
    return after.model_copy(update=points)


def _had(before: StudyDocument, space: Space) -> dict[str, Scalar]:
    """Return what all trials had so far of the names that are searched from now on."""
    recipe = before.fixed if before.is_external else before.recipe({}).model_dump()
    return {name: recipe[name] for name in space if name not in before.space and name in recipe}


def _inside(space: Space, values: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """Return what is left of a point to begin with; the rest is drawn from the priors."""
    left = {
        name: value
        for name, value in values.items()
        if name in space and contains(space[name], value)
    }
    rules = Conditions(space)
    while unmet := {name for name, _ in rules.faults(left)}:
        left = {name: value for name, value in left.items() if name not in unmet}
    return left


def fitting(
    space: Space, rules: Conditions, values: Mapping[str, Scalar]
) -> Mapping[str, Scalar] | None:
    """Return the part of a trial's values that this space searches; None where the trial lies outside of it."""
    active = [name for name in space if rules.is_active(name, values)]
    if all(name in values and contains(space[name], values[name]) for name in active):
        return {name: values[name] for name in active}
    return None


def counted(after: StudyDocument, trials: Iterable[Begun]) -> tuple[StudyDocument, list[Fault]]:
    """Return the document that tells how many of the trials lie outside of its space, and what keeps it from being stored.

    A trial that has not ended, and of which the sampler would never hear, is such a reason.
    """
    rules = Conditions(after.space)
    outside = [
        trial
        for trial in trials
        if fitting(after.space, rules, after.values_of(trial.number, trial.hyperparameters))
        is None
    ]
    *earlier, last = after.space_edits
    told = last.model_copy(update={"outside": len(outside)})
    orphans = [trial.number for trial in outside if trial.state in UNFINISHED]
    faults = [Fault(("space",), "orphans_trials", _orphaned(orphans))] if orphans else []
    return after.model_copy(update={"space_edits": (*earlier, told)}), faults


def _orphaned(numbers: list[int]) -> str:
    named = ", ".join(map(str, sorted(numbers)[:MOST_NAMED]))
    more = f" and {len(numbers) - MOST_NAMED} more" if len(numbers) > MOST_NAMED else ""
    return (
        f"trials {named}{more} have not ended and lie outside: the search would learn nothing from them. "
        "Wait for them, or end them with `trimtab trial stop`"
    )
