import math
from dataclasses import replace

import numpy as np
import pytest

from service.sampling.model.cube import Cube
from service.sampling.scheduling.board import AT_FIRST, Board, Standing, standing_of
from tests.unit.sampling.scheduling.studies import facts, uniform
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import FloatRange

UNIT = FloatRange(kind="float", low=0, high=1)
CUBE = Cube({"x": UNIT, "y": UNIT})
CURVE = (0.3, 0.2, None, 0.5, 0.4)


def board(direction: Direction = "maximize") -> Board:
    return Board(CUBE, (2, 3, 4, 6), direction)


def known(found: Board, row: int = 0) -> list[float]:
    return found.curves[row, : found.reached[row] + 1].tolist()


def test_curves_are_kept_as_the_best_so_far_at_the_decision_epochs():
    found = board()
    found.learn([facts(0, uniform(0), CURVE, runs_until=6)])
    assert known(found) == [0.3, 0.3, 0.5]
    assert (found.epochs[0], found.best[0], found.half[0]) == (5, 0.5, 0.3)


def test_where_less_is_better_the_values_are_negative():
    found = board("minimize")
    found.learn([facts(0, uniform(0), CURVE)])
    assert known(found) == [-0.2, -0.2, -0.2]


def test_a_trial_that_completed_early_stays_where_it_was():
    found = board()
    found.learn([facts(0, uniform(0), CURVE[:2], "completed")])
    assert known(found) == [0.3, 0.3, 0.3, 0.3]
    assert found.epochs[0] == 2


def test_a_curve_without_any_finite_value_has_reached_nothing():
    found = board()
    found.learn([facts(0, uniform(0), (None, None, None))])
    assert found.reached[0] == -1
    assert found.best_of_all() == -math.inf
    assert not found.is_finite[0]


def test_only_the_last_value_tells_whether_a_curve_is_finite():
    found = board()
    found.learn([facts(0, uniform(0), CURVE), facts(1, uniform(1), ())])
    assert found.is_finite[:2].tolist() == [True, True]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_what_a_failed_trial_reported_is_no_value(state: str):
    found = board()
    found.learn([facts(0, uniform(0), CURVE, state)])
    assert (found.reached[0], found.best[0]) == (-1, -math.inf)


def test_a_trial_that_is_learned_again_takes_its_old_row():
    found = board()
    found.learn([facts(7, uniform(7), CURVE[:2]), facts(3, uniform(3), ())])
    found.learn([facts(7, uniform(7), CURVE, "paused", runs_until=4)])
    assert (found.size, found.rows) == (2, {7: 0, 3: 1})
    assert found.where(Standing.PAUSED).tolist() == [0]
    assert not found.committed[0]


def test_a_report_that_was_not_stored_is_taken_back():
    found = board()
    found.learn([facts(0, uniform(0), CURVE)])
    found.learn([facts(0, uniform(0), CURVE[:2])])
    assert known(found) == [0.3]
    assert math.isnan(found.curves[0, 1])


def test_a_board_grows():
    found = board()
    count = 3 * AT_FIRST
    found.learn(facts(n, uniform(n), (0.1 * n, 0.2 * n)) for n in range(count))
    assert found.best[:count] == pytest.approx([0.2 * n for n in range(count)])
    assert found.points[count - 1] == pytest.approx(CUBE.at(uniform(count - 1)))


def test_what_a_trial_has_is_no_new_configuration():
    found = board()
    found.learn([facts(0, {"x": 0.5, "y": 0.25}, ())])
    points = np.array([[0.5, 0.25], [0.5, 0.5]])
    assert found.are_new(points).tolist() == [False, True]


def test_the_next_decision_comes_after_the_epochs_that_there_are():
    found = board()
    curves = [(), CURVE[:2], CURVE, (*CURVE, 0.1)]
    found.learn(facts(n, uniform(n), curve, epochs=6) for n, curve in enumerate(curves))
    assert [found.next_epoch(row) for row in range(4)] == [2, 3, 6, 6]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("running", Standing.RUNNING),
        ("queued", Standing.RUNNING),
        ("paused", Standing.PAUSED),
        ("completed", Standing.DONE),
        ("pruned", Standing.ENDED),
        ("failed", Standing.INFEASIBLE),
        ("cancelled", Standing.GONE),
    ],
)
def test_each_state_has_its_standing(state: str, expected: Standing):
    assert standing_of(facts(0, {}, (0.1,), state)) is expected


def test_a_trial_that_a_person_paused_is_none_to_take_up():
    paused = replace(facts(0, {}, (0.1,), "paused"), paused_by_search=False)
    assert standing_of(paused) is Standing.RUNNING


def test_a_failure_of_machines_says_nothing():
    failed = replace(facts(0, {}, (0.1,), "failed"), error_kind="poison")
    assert standing_of(failed) is Standing.GONE
