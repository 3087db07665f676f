"""Trials of equal values: who was as good for longer is better, and then a lot decides; the same everywhere."""

import hashlib
from collections.abc import Sequence

import pytest

from service.use_cases import artifacts, studies
from tests.support.documents import a_document
from tests.support.protocol import Service

LATE = (0.1, 0.2, 0.3, 0.4)
"""The mean of the later half is 0.35; the whole curve's is 0.25."""
EARLY = (0.9, 0.9, 0.3, 0.35)
UNTOLD: Sequence[float | None] = (None, None)


def ended(service: Service, *curves: Sequence[float | None], value: float = 0.4) -> None:
    """A study all of whose trials have the same value."""
    for number, curve in enumerate(curves):
        lease = service.lease()
        if curve:
            service.report(lease, *curve)
        service.checkpoint(lease, number)
        service.complete(lease, value)


def winner(service: Service) -> int:
    """Which trial is the best, by all that tell it."""
    found = studies.read(service.context, "digits").best
    assert found is not None
    final = service.lease()
    # Long after: what is left of the states in the folder are the winner's.
    service.clock.advance(1000)
    artifacts.collect(service.context, 900)
    kept = [file.read_text() for file in service.context.artifacts.root.glob("??/*")]
    told = studies.best(service.context, "digits").trial.number
    assert {found.number, told, final.trial_number, *map(int, kept)} == {found.number}
    return found.number


@pytest.mark.parametrize(
    ("objective", "curves", "best"),
    [
        ("accuracy", (EARLY, LATE, EARLY), 1),
        ("loss", (LATE, EARLY, LATE), 1),
        ("accuracy", ((), UNTOLD, LATE), 2),
        ("loss", ((), UNTOLD, LATE), 2),
        ("accuracy", ((0.9, None, None), (0.1, 0.2, 0.3)), 1),
        ("accuracy", ((0.1, 0.3), (0.3, 0.1, 0.2)), 0),
    ],
)
def test_of_equals_the_one_with_the_better_later_half_wins(
    service: Service, objective: str, curves: Sequence[Sequence[float | None]], best: int
) -> None:
    task = a_document()["task"] | {"objective": objective}
    service.study(task=task, budget={"trials": len(curves)})
    ended(service, *curves)
    assert winner(service) == best


def test_values_of_any_size_are_compared(service: Service) -> None:
    service.study(budget={"trials": 2})
    ended(service, (0.0, 0.0, 1e285, 1e-165), (0.0, 0.0, 2e285, -3e284))
    assert winner(service) == 1


def test_between_equals_in_everything_a_lot_decides_that_is_not_the_number(
    service: Service,
) -> None:
    winners: list[int] = []
    for _ in range(6):
        service.study(budget={"trials": 4})
        ended(service, *[LATE] * 4)
        study_id = studies.study_id(service.context, "digits")
        lots = [hashlib.md5(f"{study_id}/{n}".encode()).hexdigest() for n in range(4)]
        winners.append(winner(service))
        assert winners[-1] == lots.index(min(lots))
        studies.cancel(service.context, "digits")
        service.expire()
        studies.delete(service.context, "digits")
        service.clock.advance(1000)
        artifacts.collect(service.context, 900)
    assert len(set(winners)) > 2


def test_the_value_counts_before_all_else(service: Service) -> None:
    service.study(budget={"trials": 2})
    ended(service, LATE, value=0.4)
    ended(service, UNTOLD, value=0.41)
    assert studies.best(service.context, "digits").trial.number == 1
