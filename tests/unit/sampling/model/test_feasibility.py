import numpy as np
import pytest

from service.sampling.model.feasibility import Feasibility

LINE = np.linspace(0, 1, 21)[:, None]


def _learned(limit: float) -> Feasibility:
    feasibility = Feasibility(np.array([0]))
    feasibility.learn(LINE, np.flatnonzero(LINE[:, 0] > limit))
    return feasibility


def test_it_is_sure_on_both_sides_of_a_limit():
    found = np.exp(_learned(0.72).log_probability(np.array([[0.1], [0.5], [0.9], [1.0]])))
    assert (found[:2] > 0.99).all()
    assert (found[2:] < 0.01).all()


def test_it_falls_towards_the_limit_and_is_one_half_there():
    found = np.exp(_learned(0.72).log_probability(np.array([[0.6], [0.725], [0.85]])))
    assert found[0] > found[1] > found[2]
    assert found[1] == pytest.approx(0.5, abs=0.2)


def test_it_says_nothing_where_nothing_has_failed():
    feasibility = Feasibility(np.array([0]))
    feasibility.learn(LINE, np.zeros(0, np.intp))
    assert feasibility.log_probability(LINE).tolist() == [0] * 21


def test_what_all_have_failed_near_is_not_quite_impossible_far_away():
    feasibility = Feasibility(np.array([0]))
    feasibility.learn(LINE[:3], np.arange(3))
    near, far = np.exp(feasibility.log_probability(np.array([[0.05], [1.0]])))
    assert near < 0.01
    assert far > 5 * near


def test_it_learns_from_trials_beyond_the_first():
    feasibility = _learned(0.72)
    feasibility.learn(LINE, np.arange(4, 21))
    assert np.exp(feasibility.log_probability(np.array([[0.5]])))[0] < 0.05


def test_it_depends_on_what_is_known_and_not_on_what_was():
    twice, once = _learned(0.2), _learned(0.72)
    twice.learn(LINE, np.flatnonzero(LINE[:, 0] > 0.72))
    assert (twice.log_probability(LINE) == once.log_probability(LINE)).all()
