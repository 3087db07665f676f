from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from service.sampling.model.cube import Cube
from service.sampling.scheduling.board import Board
from service.sampling.scheduling.forecast import (
    LOWEST_END,
    MOST_SHOWN,
    Ends,
    Forecast,
    Posterior,
    Units,
    unclipped,
)
from tests.unit.sampling.scheduling.studies import facts, uniform
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import FloatRange

UNIT = FloatRange(kind="float", low=0, high=1)
CUBE = Cube({"x": UNIT, "y": UNIT})
GRID = (2, 4, 10)
NONE = np.zeros((0, 2))


def board(
    *trials: tuple[Sequence[float], str], direction: Direction = "maximize", first: int = 0
) -> Board:
    found = Board(CUBE, GRID, direction)
    learn(found, *trials, first=first)
    return found


def learn(found: Board, *trials: tuple[Sequence[float], str], first: int = 0) -> None:
    found.learn(
        facts(first + n, uniform(first + n), curve, state, runs_until=2, epochs=10)
        for n, (curve, state) in enumerate(trials)
    )


def shown(forecast: Forecast, found: Board, believed: np.ndarray = NONE) -> Posterior:
    rows = np.arange(found.size)
    return forecast.condition(forecast.ends(), rows, believed, np.random.default_rng(0))


PAUSED = [([0.1 * n] * 2, "paused") for n in range(1, 6)]


def test_the_middle_is_0_and_the_best_1():
    units = Units.of(np.array([0.1, 0.2, 0.6]), 0.7)
    assert units.to(np.array([0.2, 0.7])) == pytest.approx([0, 1])
    assert units.back(np.array([0.0, 1.0])) == pytest.approx([0.2, 0.7])


def test_where_all_are_equal_the_unit_is_a_thousandth_of_the_best():
    assert Units.of(np.array([0.5, 0.5]), 0.5).width == pytest.approx(5e-4)
    assert Units.of(np.array([0.0]), 0.0).width == 1e-9


def test_the_first_units_are_those_of_the_values_that_trials_have_shown():
    forecast = Forecast(board(*PAUSED))
    forecast.ends()
    assert (forecast.units.middle, forecast.best) == pytest.approx((0.3, 1.0))


def test_failed_trials_move_no_scale_and_no_expected_end():
    forecast = Forecast(board(*PAUSED, *[([-1e6] * 2, "failed")] * 9))
    ends = forecast.ends()
    assert forecast.units.middle == pytest.approx(0.3)
    assert ends.mean[:5] == pytest.approx(Forecast(board(*PAUSED)).ends().mean)


def test_near_failed_trials_others_are_likely_to_fail_and_without_any_none_is():
    found = board(*PAUSED)
    anywhere = found.cube.features(np.random.default_rng(0).random((50, found.cube.size)))
    assert not Forecast(found).log_feasible(anywhere).any()
    nothing: list[float] = []
    learn(found, *[(nothing, "failed")] * 3, first=5)
    chances = np.exp(Forecast(found).log_feasible(found.features[: found.size]))
    assert chances[5:].max() < 0.4 < 0.6 < chances[:5].min()


def test_a_completed_trial_that_violates_a_constraint_is_the_best_of_nothing_and_tells_of_others():
    found = board(*PAUSED)
    whole = facts(5, uniform(5), [0.9] * 10, epochs=10)
    found.learn([replace(whole, violation=0.8, margin=0.8)])
    kept = facts(6, uniform(6), [0.4] * 10, epochs=10)
    found.learn([replace(kept, margin=-0.8)])
    forecast = Forecast(found)
    assert forecast.ends().mean[5] > 1.0 == pytest.approx(forecast.best)
    assert forecast.units.back(np.array([1.0])) == pytest.approx(0.5)
    chances = np.exp(forecast.log_feasible(found.features[5:7]))
    assert chances[0] < 0.4 < 0.6 < chances[1]


def test_units_are_renewed_by_expected_ends_when_a_fifth_more_trials_are_there():
    found = board(*PAUSED, *PAUSED)
    forecast = Forecast(found)
    shown(forecast, found)
    first = forecast.units
    learn(found, ([0.9] * 2, "paused"), first=10)
    shown(forecast, found)
    assert forecast.units == first
    learn(found, ([0.9] * 2, "paused"), first=11)
    shown(forecast, found)
    assert forecast.units.width > first.width


def test_after_a_restart_the_units_are_those_of_expected_ends_at_once():
    rising = [([0.1 * n] * 2 + [0.1 * n + 0.3] * 8, "completed") for n in range(1, 6)]
    found = board(*rising, *PAUSED * 3)
    forecast = Forecast(found)
    forecast.ends()
    shown_so_far = float(np.median(found.best[: found.size]))
    assert forecast.units.middle > shown_so_far + 0.05


def test_what_is_not_yet_shown_is_expected_to_be_the_middle():
    ends = Forecast(board(*PAUSED, ([0.5], "running"))).ends()
    assert (ends.mean[5], ends.variance[5]) == (0.0, 0.1)


def test_the_process_takes_nothing_for_worse_than_its_lowest():
    found = board(*PAUSED, ([0.1 * LOWEST_END - 5] * 10, "completed"))
    posterior = shown(Forecast(found), found)
    assert posterior.mean[5] == pytest.approx(LOWEST_END, abs=0.01)


def test_the_process_sees_two_hundred_of_the_best_and_the_newest():
    found = board(*[([1 - 0.001 * n] * 2, "paused") for n in range(300)])
    rows = shown(Forecast(found), found).rows
    assert len(rows) == MOST_SHOWN
    assert set(range(150)) <= set(rows.tolist())
    assert set(range(250, 300)) <= set(rows.tolist())


def test_no_trial_is_less_certain_than_its_curve():
    found = board(*PAUSED, ([0.3] * 10, "completed"))
    forecast = Forecast(found)
    ends = forecast.ends()
    posterior = shown(forecast, found)
    assert (posterior.variance <= ends.variance).all()


def test_near_a_trial_that_only_runs_less_is_to_be_found_out():
    found = board(*PAUSED)
    forecast = Forecast(found)
    at = np.array([[0.9, 0.9]])
    shown(forecast, found)
    mean, before = forecast.predict(at)
    posterior = shown(forecast, found, at)
    believed, after = forecast.predict(at)
    assert after[0] < before[0]
    assert believed == pytest.approx(mean, abs=0.05)
    assert len(posterior.mean) == 5


def test_a_person_is_told_values_of_the_objective():
    less = Forecast(board(*PAUSED, direction="minimize"))
    assert less.told(0.0, 1.0) is None
    less.ends()
    told = less.told(1.0, 0.5)
    assert told
    assert told.value == pytest.approx(0.1)
    assert (told.low, told.high) == pytest.approx((0.1 - 0.196, 0.1 + 0.196))


def test_no_person_is_told_a_share_above_one():
    forecast = Forecast(board(*PAUSED), (0.0, 1.0))
    forecast.ends()
    told = forecast.told(10.0, 100.0)
    assert told
    assert (told.value, told.low, told.high) == (1.0, 0.0, 1.0)


def test_of_bad_trials_what_their_curves_say_is_told():
    ends = Ends(np.array([0.5, -2.5]), np.array([0.1, 0.1]))
    assert unclipped(ends, np.array([0, 1]), np.array([0.4, -1.4])).tolist() == [0.4, -2.5]
