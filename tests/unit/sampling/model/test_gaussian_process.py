import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.sampling.model.arrays import Floats, cholesky, diagonal_of_inverse, inverse
from service.sampling.model.gaussian_process import (
    GaussianProcess,
    fitted_at,
    matern,
    negative_log_posterior,
    squared_differences,
)

REFERENCE: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("reference.json").read_text()
)
"""Inputs, and what another implementation of the same model made of them."""
reference = pytest.mark.parametrize("known", REFERENCE, ids=range(len(REFERENCE)))


def _of(known: dict[str, Any], *names: str) -> list[Any]:
    return [np.array(known[name]) for name in names]


@reference
def test_likelihood_and_gradient_are_the_references(known: dict[str, Any]):
    groups, features, observed, variance, theta = _of(
        known, "groups", "features", "observed", "variance", "theta"
    )
    squares = squared_differences(features, groups)
    value, gradient = negative_log_posterior(theta, squares, observed, variance)
    assert value == pytest.approx(known["value"], abs=1e-8)
    assert gradient == pytest.approx(known["gradient"], abs=1e-8)


@reference
def test_the_gradient_is_that_of_finite_differences(known: dict[str, Any]):
    groups, features, observed, variance, theta = _of(
        known, "groups", "features", "observed", "variance", "theta"
    )
    squares = squared_differences(features, groups)

    def value(at: Floats) -> float:
        return negative_log_posterior(at, squares, observed, variance)[0]

    steps = 1e-5 * np.eye(len(theta))
    slopes = [(value(theta + step) - value(theta - step)) / 2e-5 for step in steps]
    gradient = negative_log_posterior(theta, squares, observed, variance)[1]
    assert gradient == pytest.approx(slopes, abs=1e-6)


@reference
def test_fit_posterior_and_prediction_are_the_references(known: dict[str, Any]):
    groups, *data, others = _of(known, "groups", "features", "observed", "variance", "others")
    process = GaussianProcess(groups)
    process.fit(*data)
    kernel = process.hyperparameters
    found = [*np.log(kernel.lengths), np.log(kernel.signal), np.log(kernel.nugget)]
    # The path of an optimiser magnifies a last digit.
    assert found == pytest.approx(known["fitted"], abs=1e-6)
    mean, deviation = process.condition(*data)
    assert mean == pytest.approx(known["posterior_mean"], abs=1e-6)
    assert deviation == pytest.approx(known["posterior_variance"], abs=1e-6)
    mean, deviation = process.predict(others)
    assert mean == pytest.approx(known["predicted_mean"], abs=1e-6)
    assert deviation == pytest.approx(known["predicted_variance"], abs=1e-6)


def test_a_single_observation_moves_prediction_as_the_formula_says():
    process = GaussianProcess(np.array([0]))
    process.condition(np.array([[0.0]]), np.array([2.0]), np.array([0.3]))
    kernel = process.hyperparameters
    apart = float(np.sqrt(5) / kernel.lengths[0])
    across = kernel.signal * (1 + apart + apart**2 / 3) * np.exp(-apart)
    own = kernel.signal + 0.3 + kernel.nugget + 1e-6
    constant = (2.0 / own) / (1 / own + 1)
    mean, variance = process.predict(np.array([[1.0]]))
    assert mean == pytest.approx([constant + across / own * (2.0 - constant)])
    assert variance == pytest.approx([kernel.signal + kernel.nugget - across**2 / own])


def test_features_of_one_coordinate_share_its_length_scale():
    features = np.array([[0.7, 0.0, 0.0], [0.0, 0.7, 0.5]])
    squares = squared_differences(features, np.array([0, 0, 1]))
    assert squares[:, 0, 1] == pytest.approx([0.98, 0.25])


def test_an_uncertain_observation_is_drawn_to_its_neighbours_and_a_sure_one_stays():
    process = GaussianProcess(np.array([0]))
    features = np.array([[0.49], [0.5], [0.51]])
    mean, variance = process.condition(
        features, np.array([0.0, 3.0, 0.0]), np.array([1e-4, 10.0, 1e-4])
    )
    assert mean[[0, 2]] == pytest.approx([0, 0], abs=0.01)
    assert abs(mean[1]) < 0.1
    assert variance[1] < 0.1
    assert (variance <= [1e-4, 10.0, 1e-4]).all()


@pytest.mark.parametrize(
    ("features", "observed"),
    [
        (np.zeros((1, 2)), np.zeros(1)),
        (np.zeros((30, 2)), np.zeros(30)),
        (np.full((30, 2), 0.5), np.linspace(-1, 1, 30)),
        (np.repeat(np.eye(2), 20, axis=0), np.full(40, 1.0)),
        (np.linspace(0, 1e-9, 60).reshape(30, 2), np.linspace(-3, 3, 30)),
    ],
    ids=["one", "constant", "twins", "constant twins", "almost twins"],
)
def test_hard_cases_get_finite_answers(features: Floats, observed: Floats):
    process, none = GaussianProcess(np.array([0, 1])), np.zeros(len(observed))
    process.fit(features, observed, none)
    answers = [*process.condition(features, observed, none), *process.predict(np.eye(2))]
    assert all(np.isfinite(answer).all() for answer in answers)
    assert all((answer > 0).all() for answer in answers[1::2])


@reference
def test_what_is_assumed_counts_as_an_observation_of_what_was_predicted(known: dict[str, Any]):
    groups, features, observed, variance, others = _of(
        known, "groups", "features", "observed", "variance", "others"
    )
    elsewhere, noise = features[:4] + 0.05, np.array([0.1, 0.3, 0.0])
    assuming, told = GaussianProcess(groups), GaussianProcess(groups)
    assuming.observe(features, observed, variance)
    before, _ = assuming.predict(elsewhere)
    predicted, _ = assuming.predict(others)
    assert assuming.assume(others, noise) == pytest.approx(predicted)
    told.observe(
        np.concatenate([features, others]),
        np.concatenate([observed, predicted]),
        np.concatenate([variance, noise]),
    )
    for found, right in zip(assuming.predict(elsewhere), told.predict(elsewhere), strict=True):
        assert found == pytest.approx(right, abs=1e-9)
    assert assuming.predict(elsewhere)[0] == pytest.approx(before)


def test_a_second_fit_begins_where_the_first_one_ended():
    known = REFERENCE[3]
    groups, *data = _of(known, "groups", "features", "observed", "variance")
    process = GaussianProcess(groups)
    values: list[float] = []
    for _ in range(3):
        process.fit(*data)
        kernel = process.hyperparameters
        theta = np.log([*kernel.lengths, kernel.signal, kernel.nugget])
        squares = squared_differences(data[0], groups)
        values.append(negative_log_posterior(theta, squares, *data[1:])[0])
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(values[1], abs=1e-3)


def test_the_correlation_is_1_at_a_point_itself_and_falls():
    line = np.linspace(0, 3, 7)[:, None]
    found = matern(line[:1], line)[0]
    assert found[0] == 1
    assert (np.diff(found) < 0).all()


def test_a_matrix_that_rounding_made_indefinite_is_factored_with_a_raised_diagonal():
    factor = np.tril(cholesky(np.array([[1.0, 1.0], [1.0, 1.0 - 1e-12]])))
    assert factor @ factor.T == pytest.approx(np.ones((2, 2)), abs=1e-8)
    assert np.isfinite(inverse(factor)).all()


def test_a_matrix_that_is_not_finite_is_told():
    with pytest.raises(ValueError, match="not finite"):
        cholesky(np.array([[np.nan]]))


def test_fits_are_due_when_a_fifth_more_is_known():
    due = [n for n in range(1, 40) if fitted_at(n) == n]
    assert due == [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33]
    assert fitted_at(32) == 27


def test_the_diagonal_of_an_inverse_is_that_of_the_whole():
    half = np.random.default_rng(0).normal(size=(30, 30))
    matrix = half @ half.T + np.eye(30)
    right = np.diag(np.linalg.inv(matrix))
    assert diagonal_of_inverse(cholesky(matrix)) == pytest.approx(right, rel=1e-9)
