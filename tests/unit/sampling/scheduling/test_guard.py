from collections.abc import Sequence

import numpy as np
import pytest

from service.sampling.model.cube import Cube
from service.sampling.scheduling import guard
from service.sampling.scheduling.board import Board
from tests.unit.sampling.scheduling.studies import facts, uniform
from trimtab.contract.search_space import FloatRange

UNIT = FloatRange(kind="float", low=0, high=1)
CUBE = Cube({"x": UNIT, "y": UNIT})


def board(
    *trials: tuple[Sequence[float], str, int | None], epochs: int = 10, grid: Sequence[int] = ()
) -> Board:
    """Make a board of trials: the curve, the state, the number of epochs that it runs until."""
    found = Board(CUBE, grid or (2, 4, epochs), "maximize")
    found.learn(
        facts(n, uniform(n), curve, state, runs_until=until, epochs=epochs)
        for n, (curve, state, until) in enumerate(trials)
    )
    return found


def owes(found: Board, leaving: int | None = None) -> bool:
    return guard.owes_a_commitment(found, leaving, is_blind=False)


@pytest.mark.parametrize(("short", "expected"), [(9, False), (10, False), (11, True)])
def test_half_of_all_epochs_go_to_trials_that_run_to_their_end(short: int, expected: bool):
    # The one that runs to its end has 3 epochs, and owes 7: half of 20 epochs.
    others = [([0.1], "paused", 2)] * short
    assert owes(board(([0.1] * 3, "running", None), *others)) is expected


def test_a_trial_that_is_let_go_owes_nothing_more():
    found = board(([0.1] * 3, "running", None), *[([0.1], "paused", 2)] * 5)
    assert not owes(found)
    assert owes(found, leaving=0)


def test_a_trial_whose_last_stretch_ends_at_the_end_is_not_committed():
    assert owes(board(([0.1] * 4, "running", 10)))
    assert guard.commitments(board(([0.1] * 4, "running", 10))) == 0


def test_a_trial_that_completed_early_owes_nothing_more():
    early = ([0.1] * 3, "completed", None)
    assert owes(board(early, *[([0.1], "paused", 2)] * 4))
    assert not owes(board(early, *[([0.1], "paused", 2)] * 3))


def test_what_was_cancelled_counts_nowhere():
    found = board(([0.1] * 8, "cancelled", None), ([0.1] * 2, "paused", 2))
    assert owes(found)
    assert guard.commitments(found) == 0


def test_where_beginnings_tell_nothing_all_run_to_their_end():
    found = board(([0.1] * 3, "running", None))
    assert guard.owes_a_commitment(found, None, is_blind=True)


def rising(beginning: float, end: float) -> list[float]:
    return [beginning] * 5 + [max(beginning, end)] * 5


@pytest.mark.parametrize(
    ("ends", "expected", "blind"),
    [
        ([0.6, 0.7, 0.8, 0.9, 1.0], 1.0, False),
        ([1.0, 0.9, 0.8, 0.7, 0.6], -1.0, True),
        ([0.8, 0.6, 0.7, 0.9, 1.0], 0.7, False),
        ([0.7, 0.6, 1.0, 0.8, 0.9], 0.6, True),
        ([0.8, 1.0, 0.6, 0.9, 0.7], -0.3, True),
    ],
)
def test_beginnings_tell_something_where_their_ranks_are_those_of_the_ends(
    ends: Sequence[float], expected: float, blind: bool
):
    beginnings = [0.1, 0.2, 0.3, 0.4, 0.5]
    curves = [rising(*both) for both in zip(beginnings, ends, strict=True)]
    found = guard.correlation(board(*[(curve, "completed", None) for curve in curves]))
    assert found is not None
    assert found.value == pytest.approx(expected)
    assert guard.is_blind(found) is blind


@pytest.mark.parametrize(("done", "wanted"), [(5, 0.613), (16, 0.475), (100, 0.37)])
def test_of_few_trials_more_is_wanted_than_chance_would_give(done: int, wanted: float):
    assert guard.Correlation(0.0, done).wanted == pytest.approx(wanted, abs=5e-4)
    assert guard.is_blind(guard.Correlation(wanted - 0.01, done))
    assert not guard.is_blind(guard.Correlation(wanted + 0.01, done))


def test_a_beginning_that_later_epochs_fall_below_does_not_foretell_itself():
    # The best values of all epochs are those of the first halves, which the ends have nothing to do with.
    curves = [[0.5 + 0.1 * n] * 5 + [0.4 - 0.1 * n] * 5 for n in range(5)]
    found = guard.correlation(board(*[(curve, "completed", None) for curve in curves]))
    assert found is not None
    assert found.value == pytest.approx(-1.0)


def test_four_completed_trials_tell_nothing_of_beginnings():
    found = board(*[(rising(0.1 * n, 1 - 0.1 * n), "completed", None) for n in range(4)])
    assert guard.correlation(found) is None
    assert not guard.is_blind(None)
    assert guard.medians(found) == {}


def hopeless(found: Board, row: int, *, is_blind: bool = False) -> bool:
    return bool(guard.hopeless(found, np.array([row]), is_blind=is_blind)[0])


def test_a_trial_is_hopeless_below_the_median_of_the_completed_at_its_epoch():
    done = [([n / 10, n / 10, 0.9] + [0.95] * 7, "completed", None) for n in range(1, 6)]
    below, at = ([0.1, 0.29], "running", None), ([0.3, 0.1], "running", None)
    found = board(*done, below, at)
    assert guard.medians(found) == pytest.approx({0: 0.3, 1: 0.95, 2: 0.95})
    assert (hopeless(found, 5), hopeless(found, 6)) == (True, False)
    assert not hopeless(found, 5, is_blind=True)


def test_none_is_hopeless_before_five_have_completed():
    done = [([0.9] * 10, "completed", None)] * 4
    assert not hopeless(board(*done, ([0.1, 0.1], "running", None)), 4)


def test_a_trial_that_has_come_to_no_decision_is_not_hopeless():
    done = [([0.9] * 10, "completed", None)] * 5
    assert not hopeless(board(*done, ([0.1], "running", None)), 5)
