import numpy as np
import pytest

from service.sampling.model.expected_improvement import log_expected_improvement

KNOWN = {
    3.0: 1.0987396653277078,
    0.5: -0.35982768374506382,
    -0.9: -2.2982829894596518,
    -1.1: -2.6791783824760535,
    -5.0: -16.74430116266099,
    -37.0: -692.64296016327041,
    -999.0: -499015.2324510965,
    -1001.0: -501015.23645108583,
    -1e5: -5000000023.9447895,
}
"""The logarithm of phi(z) + z Phi(z), computed with 80 digits."""


@pytest.mark.parametrize("z", KNOWN)
def test_it_has_the_right_value_also_far_below_the_best(z: float):
    found = log_expected_improvement(np.array([z]), np.array([1.0]), 0.0)
    assert found == pytest.approx([KNOWN[z]], rel=1e-9)


def test_it_has_the_units_of_the_values():
    mean, deviation = np.array([1.0, 2.0]), np.array([0.5, 3.0])
    once = log_expected_improvement(mean, deviation, 2.5)
    scaled = log_expected_improvement(10 * mean + 7, 10 * deviation, 32.0)
    assert scaled == pytest.approx(once + np.log(10))


def test_it_rises_with_the_mean_over_all_its_formulas():
    mean = np.sort(np.concatenate([np.linspace(-2000, 10, 4000), [-1000.0, -1.0, -1e6]]))
    found = log_expected_improvement(mean, np.ones_like(mean), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
