"""How a study's trials keep its constraints, as people read it."""

from collections.abc import Sequence

from sqlalchemy import Connection

from service.storage import constraints
from trimtab.contract.objectives import Constraint, Violated


def violated(connection: Connection, study_id: int) -> tuple[Violated, ...]:
    """Return each constraint of a study with the numbers of trials that violate it; none before one was measured."""
    return tuple(_shape(row) for row in constraints.kept(connection, study_id))


def none_feasible(found: Sequence[Violated]) -> str | None:
    """Return why no trial may be handed over, and what to do; None where none was measured."""
    if not found:
        return None
    told = "; ".join(_in_words(one) for one in found if one.violated or one.untrained)
    completed = found[0].completed
    none = f"None of the {completed} completed trials keeps every constraint"
    return (
        f"{none if completed else 'No trial completed'}: {told}. "
        "Loosen the bounds, or search a space that has smaller or faster models."
    )


def _in_words(one: Violated) -> str:
    nearest = "" if one.nearest is None else f" (the nearest has {one.nearest:.6g})"
    parts = [f"{one.violated} of {one.completed} violate"] if one.violated else []
    parts += [f"{one.untrained} were not trained, as they violate"] if one.untrained else []
    return f"{', and '.join(parts)} {one.constraint.told}{nearest}"


def _shape(row: constraints.KeptRow) -> Violated:
    return Violated(
        constraint=Constraint.model_validate(row.bounds),
        violated=row.violated,
        completed=row.completed,
        untrained=row.untrained,
        nearest=row.nearest if row.violated == row.completed else None,
    )
