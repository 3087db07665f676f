"""What `gp` takes trials that were cut short for: the ends that the curves of all make likely."""

from typing import Any

import numpy as np
import pytest

from service.domain.facts import TrialFacts
from service.sampling.expected_ends import ExpectedEnds, finals_of
from service.sampling.model.finals import CUT_SHORT, LastValues, Unit
from tests.unit.sampling.ledger import document

SPACE: dict[str, Any] = {"momentum": {"kind": "float", "low": 0.0, "high": 0.9}}
EPOCHS, STOPPED = 20, 5
UNIT = Unit(1.0, 0.5, 0.25)


def study(pruner: str, **space: Any) -> Any:
    found = document(SPACE | space, sampler="gp", pruner=pruner)
    return found if space else found.model_copy(update={"fixed": {"epochs": EPOCHS}})


def trial(number: int, state: Any, epochs: int, end: float) -> TrialFacts:
    """A curve that rises evenly to its end."""
    curve = tuple((step, end * (step + 1) / EPOCHS) for step in range(epochs))
    value = end if state == "completed" else None
    values = {"momentum": 0.1 * (number % 9)}
    return TrialFacts(number, state, values, curve, value)


def test_a_trial_that_was_stopped_is_expected_to_rise_as_others_did() -> None:
    finals = finals_of(study("median"))
    finals.learn(trial(n, "completed", EPOCHS, 0.5 + 0.03 * n) for n in range(12))
    finals.learn([trial(12, "pruned", STOPPED, 0.6)])
    mean, variance = finals.predicted(np.array([11, 12]), UNIT)
    shown, end = UNIT.of(np.array([0.6 * STOPPED / EPOCHS, 0.6]))
    assert mean[0] == pytest.approx(UNIT.of(np.array([0.83]))[0])
    assert mean[1] - shown > 0.7 * (end - shown)
    assert (variance[0], variance[1] >= CUT_SHORT) == (0.0, True)


def test_where_nothing_is_stopped_or_epochs_are_searched_values_are_taken_as_they_are() -> None:
    assert isinstance(finals_of(study("median")), ExpectedEnds)
    assert isinstance(finals_of(study("none")), LastValues)
    epochs = {"kind": "int", "low": 5, "high": 20}
    assert isinstance(finals_of(study("median", epochs=epochs)), LastValues)
