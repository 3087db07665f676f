"""What constraints and objectives must say of a study's task, and of one another."""

from collections.abc import Iterator, Sequence

from trimtab.contract.faults import Fault, hint
from trimtab.contract.objectives import Constraint, Objective, better_of


def of_constraints(
    constraints: Sequence[Constraint], metrics: Sequence[str]
) -> Iterator[Fault]:
    """Yield what is wrong with constraints.

    Args:
        constraints: The constraints of a document.
        metrics: The metrics and costs that are measured of its task.
    """
    seen: set[str] = set()
    for number, one in enumerate(constraints):
        place = ("constraints", number, "metric")
        yield from _unknown(place, one.metric, metrics)
        if one.metric in seen:
            message = "has a constraint already; give both bounds in one, as `min` and `max`"
            yield Fault(place, "constrained_twice", message)
        seen.add(one.metric)


def of_objectives(
    objectives: Sequence[Objective],
    objective: str,
    metrics: Sequence[str],
    *,
    directions_follow: bool = True,
) -> Iterator[Fault]:
    """Yield what is wrong with objectives.

    Args:
        objectives: The objectives of a document; none where its task's stands alone.
        objective: The objective of its task.
        metrics: The metrics and costs that are measured of its task.
        directions_follow: Whether the name of a metric says if more or less of it is better.
    """
    if not objectives:
        return
    if len(objectives) != 2:
        message = "are two, the task's own objective first; one alone is the task's `objective`"
        yield Fault(("objectives",), "not_two_objectives", message)
    for number, one in enumerate(objectives):
        yield from _unknown(("objectives", number, "metric"), one.metric, metrics)
        if directions_follow and one.direction not in (None, better_of(one.metric)):
            message = f"is {better_of(one.metric)} for {one.metric}"
            yield Fault(("objectives", number, "direction"), "wrong_direction", message)
    if objectives[0].metric != objective:
        message = f"is the task's own objective in the first place, which is {objective}"
        yield Fault(("objectives", 0, "metric"), "not_the_tasks_objective", message)
    if len(objectives) == 2 and objectives[1].metric == objectives[0].metric:
        message = "is the first objective again; the second is another metric or a cost"
        yield Fault(("objectives", 1, "metric"), "same_objective_twice", message)


def _unknown(
    place: tuple[str | int, ...], metric: str, metrics: Sequence[str]
) -> Iterator[Fault]:
    if metrics and metric not in metrics:
        message = f"is no metric of this task and no cost; {hint(metric, metrics)}"
        yield Fault(place, "unknown_metric", message)
