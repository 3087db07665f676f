import random

import pytest

from tests.benchmarks.comparing import compare
from tests.benchmarks.search import searched, shaped
from tests.benchmarks.search_sides import FUNCTIONS, Exact, Function, Twin


class TestComparing:
    def test_alike_samples_are_told_alike(self):
        rng = random.Random(0)
        ours, theirs = ([rng.gauss(0, 1) for _ in range(20)] for _ in range(2))
        found = compare(ours, theirs)
        assert found.alike
        assert found.interval[0] < 0 < found.interval[1]

    def test_samples_that_are_apart_are_told_apart(self):
        found = compare([1.0 + n / 100 for n in range(20)], [2.0 + n / 100 for n in range(20)])
        assert not found.alike
        assert found.chance_lower == 1.0
        assert found.difference == pytest.approx(-1.0)
        assert -1.2 < found.interval[0] < found.interval[1] < -0.8

    def test_p_is_that_of_mann_and_whitney(self):
        # As scipy's mannwhitneyu has it, asymptotic and without the continuity correction.
        found = compare([1.0, 2.0, 2.0, 5.0, 7.0], [2.0, 3.0, 6.0, 8.0, 9.0])
        assert found.p == pytest.approx(0.1692649854865269, rel=1e-9)

    def test_equal_samples_differ_by_nothing(self):
        found = compare([1.0] * 5, [1.0] * 5)
        assert (found.difference, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
@pytest.mark.parametrize("workers", [1, 8, 32])
def test_a_whole_study_is_optunas_to_the_last_bit_when_both_are_seeded_alike(
    function: Function, workers: int
):
    ours, twin = (
        searched(side(function, 3), function, 45, workers, 3) for side in (Exact, Twin)
    )
    assert len(ours) == 45
    assert ours == twin


def test_figures_keep_what_was_measured_apart_from_what_follows():
    one = {"ours": [0.1], "optuna": [0.2], "p": 0.5, "interval": (-0.2, 0.1)}
    assert shaped({"hartmann6": {8: one}}) == {
        "regret": {"hartmann6": {8: {"ours": [0.1], "optuna": [0.2]}}},
        "difference": {"hartmann6": {8: {"p": 0.5, "interval": (-0.2, 0.1)}}},
    }
