"""Which earlier studies a search began with, how near they are, and how their points did: for `trimtab study explain`."""

from collections.abc import Iterable, Mapping, Sequence

from trimtab.cli import tables
from trimtab.cli.figures import figure
from trimtab.contract.message import Message
from trimtab.contract.studies import StudyDocument
from trimtab.contract.transfer import STUDY, Part
from trimtab.contract.trials import Trial


class Transferred(Message):
    """An earlier study that was looked at for points to begin with, and what became of these."""

    study: str
    distance: float
    parts: Mapping[Part, float | None]
    points: int
    guesses: bool
    trials: tuple[int, ...]
    """The numbers of the trials that have its points."""
    best: float | None
    """The best value that these came to, the intermediate ones of trials without an objective value included."""
    place: int | None
    """The place of that value among those of all trials, from 1."""


def told(document: StudyDocument, trials: Sequence[Trial]) -> tuple[Transferred, ...] | None:
    """Tell which earlier studies gave points, and how these did; None where that is still to come."""
    if document.awaits_transfer:
        return None
    sign = 1.0 if document.task.direction == "maximize" else -1.0
    values = {one.number: tables.reached(one) for one in trials}
    known = sorted(
        (sign * value for value in values.values() if value is not None), reverse=True
    )
    found: list[Transferred] = []
    for source in document.transferred or ():
        numbers = tuple(one.number for one in trials if one.proposed_by == STUDY + source.study)
        scores = [sign * value for number in numbers if (value := values[number]) is not None]
        best = max(scores, default=None)
        found.append(
            Transferred(
                **source.model_dump(),
                trials=numbers,
                best=None if best is None else sign * best,
                place=None if best is None else 1 + known.index(best),
            )
        )
    return tuple(found)


def lines(metric: str, found: Iterable[Transferred] | None) -> list[str]:
    """Return a line for each study."""
    if found is None:
        return ["earlier studies: chosen when the first trial has told its data"]
    return [_line(metric, one) for one in found]


def _line(metric: str, one: Transferred) -> str:
    parts = ", ".join(
        f"{name} {'not known' if part is None else f'{part:.2f}'}"
        for name, part in one.parts.items()
    )
    gave = "gave nothing new that fits this space"
    if one.guesses:
        gave = "gave nothing, as its best accuracy is no better than guessing its largest class"
    if one.points:
        gave = f"gave {one.points} point{'s' * (one.points != 1)}"
        gave += (
            f", trial {', '.join(map(str, one.trials))}" if one.trials else ", not tried yet"
        )
    if one.place is not None:
        gave += f"; the best came to {figure(metric, one.best)}, place {one.place} of all"
    return f"from {one.study}, at distance {one.distance:.2f} ({parts}): {gave}"
