import numpy as np
import pytest

from service.domain.facts import Curve, TrialFacts
from service.sampling.model.finals import CUT_SHORT, LARGEST, LastValues, Unit, unit_of
from trimtab.contract.trials import TrialState

UNIT = Unit(1.0, 0.5, 0.25)


def _trial(number: int, state: TrialState, curve: Curve, value: float | None = None):
    return TrialFacts(number, state, {}, curve, value)


def test_a_unit_goes_from_the_median_to_the_best():
    unit = unit_of(np.array([0.1, 0.5, 0.9, 0.4, 0.6]), 1.0)
    assert unit.of(np.array([0.5, 0.9, 0.1])) == pytest.approx([0, 1, -1])


def test_equal_values_have_a_unit_too():
    assert unit_of(np.full(5, 0.5), 1.0).of(np.array([0.5, 0.501])) == pytest.approx([0, 2])
    assert np.isfinite(unit_of(np.zeros(5), 1.0).of(np.array([0.0, 1.0]))).all()


def test_the_value_of_a_completed_trial_is_sure_and_the_last_one_of_another_a_guess():
    finals = LastValues(1.0)
    finals.learn(
        [
            _trial(0, "completed", ((0, 0.1), (1, 0.9)), 0.75),
            _trial(1, "pruned", ((0, 0.3), (1, 0.25), (2, None))),
            _trial(70, "paused", ((0, 0.5),)),
        ]
    )
    mean, variance = finals.predicted(np.array([0, 1, 70]), UNIT)
    assert mean == pytest.approx([1, -1, 0])
    assert variance == pytest.approx([0, CUT_SHORT, CUT_SHORT])


def test_the_noise_of_a_share_is_that_of_the_rows_it_is_measured_on():
    finals = LastValues(1.0, of_shares=True)
    whole = [_trial(n, "completed", (), value) for n, value in enumerate((0.9, 1.0))]
    finals.learn([*whole, _trial(2, "pruned", ((0, 0.9),))])
    numbers = np.array([0, 1, 2])
    assert not finals.tells_noise
    assert finals.predicted(numbers, UNIT)[1] == pytest.approx([0, 0, CUT_SHORT])
    finals.measured_on(98)
    assert finals.tells_noise
    # A hit and a miss more: 0.892 of 100, and 0.99 of 100.
    noise = np.array([0.892 * 0.108, 0.99 * 0.01]) / 98 / UNIT.scale**2
    assert finals.predicted(numbers, UNIT)[1] == pytest.approx([*noise, CUT_SHORT])


def test_what_is_no_share_has_no_noise_of_its_rows():
    finals = LastValues(-1.0)
    finals.learn([_trial(0, "completed", (), 0.5)])
    finals.measured_on(10)
    assert not finals.tells_noise
    assert finals.predicted(np.array([0]), UNIT)[1] == pytest.approx([0])


def test_less_is_better_where_that_is_said():
    finals = LastValues(-1.0)
    finals.learn([_trial(0, "completed", (), 2.0)])
    assert finals.predicted(np.array([0]), Unit(-1.0, -3.0, 1.0))[0] == pytest.approx([1])


def test_a_trial_that_never_had_a_finite_value_counts_as_worst_whichever_way_is_better():
    for sign in (1.0, -1.0):
        finals = LastValues(sign)
        finals.learn(
            [_trial(0, "pruned", ((0, None),)), _trial(1, "completed", (), -sign * 1e9)]
        )
        mean, _ = finals.predicted(np.array([0, 1]), Unit(sign, 0.0, 1.0))
        assert mean[0] == -LARGEST < mean[1]


def test_values_that_almost_overflow_stay_apart():
    finals = LastValues(1.0)
    finals.learn([_trial(0, "completed", (), 1e308), _trial(1, "completed", (), -1e308)])
    values, _ = finals.predicted(np.array([0, 1]), Unit(1.0, 0.0, 1.0))
    assert np.isfinite(unit_of(values, 1.0).of(values)).all()


def test_a_trial_that_goes_on_is_known_by_its_newest_value():
    finals = LastValues(1.0)
    finals.learn([_trial(0, "paused", ((0, 0.5),))])
    finals.learn([_trial(0, "completed", ((0, 0.5), (1, 0.75)), 0.75)])
    mean, variance = finals.predicted(np.array([0]), UNIT)
    assert (mean[0], variance[0]) == (1.0, 0.0)
