"""What trials answered to the validation split: fetched page by page, and as few as the report needs."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.support.leases import a_lease
from trimtab.contract import problems
from trimtab.contract.leases import Lease
from trimtab.contract.metrics import Direction
from trimtab.contract.validation_outputs import (
    TrialOutputs,
    TrialOutputsPage,
    ValidationOutputs,
)
from worker import trial_outputs
from worker.agent.trial_outputs import fetch

OUTPUTS = ValidationOutputs(form="hits", epochs=1, rows=8, columns=1, body="eJz7DwABAAD/")


def trials(*values: float) -> list[TrialOutputs]:
    return [
        TrialOutputs(trial_number=number, value=value, outputs=OUTPUTS)
        for number, value in enumerate(values)
    ]


class Service:
    """Tells these trials, three on a page; `troubles` are raised first."""

    def __init__(self, told: list[TrialOutputs], *troubles: problems.Problem) -> None:
        self.told, self.troubles, self.asked = told, list(troubles), 0

    def validation_outputs(self, lease_id: UUID, /, *, start: int = 0) -> TrialOutputsPage:
        self.asked += 1
        if self.troubles:
            raise self.troubles.pop()
        page = self.told[start : start + 3]
        more = start + 3 < len(self.told)
        return TrialOutputsPage(trials=tuple(page), next=start + 3 if more else None)


def final(**changes: Any) -> Lease:
    member: dict[str, Any] = {
        "trial_number": 0,
        "seed": 0,
        "hyperparameters": {},
        "recipe": {},
        "value": 0.5,
    }
    fields: dict[str, Any] = {"kind": "final", "members": [member]} | changes
    return a_lease(**fields)


def test_all_pages_are_fetched_for_a_final_lease(tmp_path: Path) -> None:
    told = trials(*[0.5] * 8)
    path = fetch(final(), tmp_path / "a", Service(told), lambda _: True)
    assert path is not None
    assert trial_outputs.read(path) == tuple(told)


@pytest.mark.parametrize("lease", [a_lease(), a_lease(kind="final"), final(kind="refit")])
def test_no_other_lease_asks(tmp_path: Path, lease: Lease) -> None:
    service = Service(trials(0.5))
    assert fetch(lease, tmp_path, service, lambda _: True) is None
    assert service.asked == 0


def test_a_service_that_is_away_is_waited_for_until_told_otherwise(tmp_path: Path) -> None:
    away = [problems.Unavailable("away") for _ in range(3)]
    assert fetch(final(), tmp_path, Service(trials(0.5), *away), lambda _: True)
    away = [problems.Unavailable("away") for _ in range(3)]
    service = Service(trials(0.5), *away)
    assert fetch(final(), tmp_path / "x", service, lambda _: False) is None
    assert service.asked == 1


def test_a_service_that_does_not_know_the_question_costs_the_report_alone(
    tmp_path: Path,
) -> None:
    service = Service(trials(0.5), problems.NotFound("no such page"))
    assert fetch(final(), tmp_path, service, lambda _: True) is None


def test_nothing_told_is_no_file(tmp_path: Path) -> None:
    assert fetch(final(), tmp_path, Service([]), lambda _: True) is None


@pytest.mark.parametrize(("direction", "best"), [("maximize", 11), ("minimize", 1)])
def test_the_first_and_the_fifty_best_are_kept_in_their_order(
    direction: Direction, best: int
) -> None:
    told = trials(0.5, *[number / 60 for number in range(1, 61)])
    found = trial_outputs.kept(reversed(told), direction)
    numbers = [one.trial_number for one in found]
    assert numbers == [0, *range(best, best + 50)]
