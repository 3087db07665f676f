"""Hypervolumes of two objectives, and how much of it a point is expected to add."""

import numpy as np
import pytest

from service.sampling.model.hypervolume import (
    Predicted,
    front_of,
    hypervolume,
    log_expected_improvement,
)

POINTS = np.array([[0.2, 0.9], [0.5, 0.5], [0.4, 0.4], [0.5, 0.3], [0.8, 0.1], [0.8, 0.1]])
ORIGIN = np.zeros(2)


def test_the_front_is_what_nothing_dominates_each_point_once():
    assert front_of(POINTS).tolist() == [[0.2, 0.9], [0.5, 0.5], [0.8, 0.1]]
    assert front_of(np.zeros((0, 2))).shape == (0, 2)


def test_the_hypervolume_is_the_area_of_the_steps():
    assert hypervolume(front_of(POINTS), ORIGIN) == pytest.approx(
        0.2 * 0.9 + 0.3 * 0.5 + 0.3 * 0.1
    )
    assert hypervolume(front_of(POINTS), np.array([0.3, 0.3])) == pytest.approx(0.2 * 0.2)


def test_what_is_certain_adds_what_the_area_grows_by():
    certain = np.full(3, 1e-9)
    added = np.array([[0.6, 0.6], [0.9, 0.95], [0.1, 0.1]])
    told = np.exp(
        log_expected_improvement(
            Predicted(added[:, 0], certain),
            Predicted(added[:, 1], certain),
            front_of(POINTS),
            ORIGIN,
        )
    )
    before = hypervolume(front_of(POINTS), ORIGIN)
    grown = [hypervolume(front_of(np.vstack([POINTS, one])), ORIGIN) - before for one in added]
    assert told == pytest.approx(grown, abs=1e-9)


def test_the_closed_form_is_the_mean_over_draws():
    chance = np.random.default_rng(0)
    mean, deviation = np.array([0.45, 0.55]), np.array([0.2, 0.3])
    draws = mean + deviation * chance.standard_normal((20_000, 2))
    before = hypervolume(front_of(POINTS), ORIGIN)
    grown = [
        hypervolume(front_of(np.vstack([POINTS, one])), ORIGIN) - before
        for one in np.maximum(draws[:2000], ORIGIN)
    ]
    first, second = (Predicted(mean[[n]], deviation[[n]]) for n in range(2))
    told = np.exp(log_expected_improvement(first, second, front_of(POINTS), ORIGIN))
    assert told[0] == pytest.approx(np.mean(grown), rel=0.08)
