import pytest

from tests.benchmarks.threads import of_best_fixed, whole_study


def test_ours_is_held_against_the_fixed_number_that_is_faster_over_all_turns() -> None:
    taken = {"ours": [2.0, 2.0], "1 fixed": [1.0, 2.0], "2 fixed": [0.5, 3.0]}
    ratio, low, high = of_best_fixed(taken)
    assert ratio == 0.75
    assert low <= ratio <= high


def test_turns_that_are_alike_leave_no_interval() -> None:
    taken = {"ours": [2.0] * 5, "1 fixed": [2.0] * 5, "2 fixed": [3.0] * 5}
    assert of_best_fixed(taken) == (1.0, 1.0, 1.0)


def test_a_study_of_which_the_first_trials_were_measured_is_scaled_by_the_later_ones() -> None:
    assert whole_study([5.0, 1.0, 2.0], 11) == pytest.approx(20.0)
    assert whole_study([5.0], 11) == 55.0
