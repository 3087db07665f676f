"""Which configurations a person may have tried, and when."""

from collections.abc import Iterator, Mapping

from service.domain.editing import Spent
from trimtab.contract.conditions import Conditions
from trimtab.contract.faults import Fault, hint
from trimtab.contract.search_space import Scalar, contains
from trimtab.contract.studies import StudyDocument


def nothing_left(document: StudyDocument, spent: Spent) -> str | None:
    """Return why the budget has no trial left, in words; None where it has one."""
    limit = document.search_budget.trials
    if spent.trials_created >= limit:
        why = f"All {limit} trials of the search have begun or are queued"
        return f"{why}: give more with `trimtab study edit {document.name} --trials N`."
    return time_over(document, spent)


def time_over(document: StudyDocument, spent: Spent) -> str | None:
    """Return why the study trains nothing more, in words; None where it has time left."""
    wall = document.search_budget.wall_time_s
    if spent.reached is not None:
        option = spent.reached.replace("_", "-")
        return (
            f"The search has reached its limit `{spent.reached}`: "
            f"give one that goes further with `trimtab study edit {document.name} --{option} ...`."
        )
    if wall is None or spent.active_s < wall:
        return None
    why = f"The wall time of the search, {wall:.0f} s, is over"
    return f"{why}: give more with `trimtab study edit {document.name} --wall-time-s S`."


def faults(document: StudyDocument, values: Mapping[str, Scalar]) -> Iterator[Fault]:
    """Yield what is wrong with the values: names that are not searched, values outside their dimension."""
    for name, value in values.items():
        place = ("values", name)
        if name in document.fixed:
            yield Fault(place, "not_searched", "is fixed in this study, and not searched")
        elif name not in document.space:
            yield Fault(place, "not_searched", f"is not searched; {hint(name, document.space)}")
        elif not contains(document.space[name], value):
            message = (
                "lies outside its dimension in `space`: `trimtab study show -o json` has it"
            )
            yield Fault(place, "outside_its_dimension", message)
    for name, message in Conditions(document.space).faults(values):
        yield Fault(("values", name), "inactive", message)
